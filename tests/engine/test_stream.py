"""How a stream ends: in order, abruptly, and against a peer that will have none of it."""

import contextlib
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from pytest_sockets import (
    Connection,
    EndpointClosedError,
    PeerGoneError,
    Settings,
    StreamServer,
    WaitTimeout,
)
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.waiting import Latch
from stream_ends import PATIENCE, abort, plain_client, read_to_eof

PATIENT = Settings(timeout=PATIENCE)
RUNS = 200
LARGE = bytes(16_000_000)
"""More than the kernel takes from one side while the other does not read."""


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def server(request: pytest.FixtureRequest) -> Iterator[StreamServer]:
    with StreamServer(family=request.param, settings=PATIENT) as server:
        yield server


def ended_as(client: socket.socket) -> bytes | type[Exception]:
    """Return all that a plain client still reads, or the error that it meets."""
    try:
        return read_to_eof(client)
    except ConnectionResetError:
        return ConnectionResetError


# -- in order


@pytest.mark.parametrize("unread", [1, 100_000])
def test_a_close_with_unread_input_sends_the_last_bytes_and_a_fin(
    server: StreamServer, unread: int
) -> None:
    seen: list[bytes | type[Exception]] = []
    for _ in range(RUNS):
        with plain_client(server.address) as client:
            conn = server.accept()
            with server._lock:  # nobody reads meanwhile
                client.sendall(bytes(unread))
                conn.send(b"last words")
                conn.close()
            seen.append(ended_as(client))
    assert seen == [b"last words"] * RUNS
    assert all(conn.received == bytes(unread) for conn in server.connections)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_would_send_a_reset(family: int) -> None:
    # Else the test above shows nothing.
    with socket.create_server(("", 0), family=family) as listener:
        listener.settimeout(PATIENCE)
        with socket.create_connection(listener.getsockname()[:2]) as client:
            conn, _ = listener.accept()
            client.sendall(b"x")
            conn.recv(1, socket.MSG_PEEK)
            conn.sendall(b"last words")
            conn.close()
            assert ended_as(client) is ConnectionResetError


def test_what_the_peer_sends_after_our_end_is_recorded(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.close()
        assert read_to_eof(client) == b""
        client.sendall(b"the rest")
        client.shutdown(socket.SHUT_WR)
        conn.assert_received(b"the rest")
        conn.wait_eof()
    kinds = [event.kind for event in conn.transcript]
    assert kinds == ["accepted", "eof_sent", "received", "peer_eof", "closed"]


# -- abruptly


def test_a_reset_is_one_on_the_wire(server: StreamServer) -> None:
    seen: list[bytes | type[Exception]] = []
    for _ in range(RUNS):
        with plain_client(server.address) as client:
            conn = server.accept()
            conn.reset()
            seen.append(ended_as(client))
    is_tcp = server.family != "unix"  # unix(7) has none: an EOF is all that its peer sees
    assert seen == [ConnectionResetError if is_tcp else b""] * RUNS


@pytest.mark.parametrize("server", ["ipv4", "ipv6"], indirect=True)
def test_a_reset_drops_what_the_peer_has_not_read(server: StreamServer) -> None:
    for _ in range(RUNS // 10):
        with plain_client(server.address) as client:
            conn = server.accept()
            with pytest.raises(WaitTimeout):
                conn.send(LARGE, timeout=0)
            conn.reset()
            assert conn._stream.queued == 0
            with pytest.raises(ConnectionResetError):
                read_to_eof(client)


def test_bytes_before_the_peers_reset_are_recorded_though_a_send_meets_it_first(
    server: StreamServer,
) -> None:
    for _ in range(RUNS // 10):
        client = plain_client(server.address)
        conn = server.accept()
        with server._lock:  # nobody reads meanwhile
            client.sendall(b"last words")
            abort(client)
            with pytest.raises(PeerGoneError):
                conn.send(b"answer")
        assert conn.received == b"last words"
        assert conn.recv_exactly(10) == b"last words"
        conn.wait_closed()


# -- against a peer that does not read, or does not stop

Ender = Callable[[Connection, float], None]
ENDERS: dict[str, Ender] = {
    "close": lambda conn, timeout: conn.close(timeout=timeout),
    "send_eof": lambda conn, timeout: conn.send_eof(timeout=timeout),
}


@pytest.mark.parametrize("name", ENDERS)
def test_an_end_that_the_peer_does_not_read_up_to_says_how_far_it_came(
    server: StreamServer, name: str
) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with pytest.raises(WaitTimeout, match=r"the kernel took [\d,]+ of 16,000,000 bytes"):
            conn.send(LARGE, timeout=0.01)
        taken = len(conn.sent)
        with pytest.raises(WaitTimeout) as caught:
            ENDERS[name](conn, 0.01)
        found = re.search(
            rf"{name} waited 0.01 s .* the kernel took ([\d,]+) of ([\d,]+) bytes",
            str(caught.value),
        )
        assert found is not None
        took, waiting = (int(number.replace(",", "")) for number in found.groups())
        assert (took, waiting) == (0, len(LARGE) - taken)
        assert not conn.is_closed
        with pytest.raises(EndpointClosedError):
            conn.send(b"behind the end")
        assert read_to_eof(client) == LARGE
        conn.wait_closed()


def send_for_ever(sock: socket.socket) -> None:
    while True:
        sock.sendall(bytes(100_000))


def test_a_peer_that_never_ends_is_drained_for_the_timeout_and_no_longer() -> None:
    with StreamServer(settings=Settings(timeout=0.05)) as server:
        with plain_client(server.address) as client:
            conn = server.accept(timeout=PATIENCE)
            conn.close()
            with pytest.raises(ConnectionError):  # the reset ends it; nothing else would
                send_for_ever(client)
        assert not conn._stream.is_open


def test_a_silent_peer_is_drained_for_the_timeout_and_no_longer() -> None:
    with StreamServer(settings=Settings(timeout=0.05)) as server:
        with plain_client(server.address) as client:
            conn = server.accept(timeout=PATIENCE)
            conn.close()
            assert read_to_eof(client) == b""
            stream = conn._stream
            settled = Latch()
            server._engine.timer(Deadline(0.05), settled.open)  # behind the one of the drain
            assert settled.wait(Deadline(PATIENCE))
            assert not stream.is_open
        assert [event.kind for event in conn.transcript][-1] == "closed"


def test_a_slow_machine_drains_for_longer() -> None:
    with StreamServer(settings=Settings(timeout=2, timeout_factor=10)) as server:
        with plain_client(server.address):
            assert server.accept()._stream._drain_timeout == 20


def test_the_end_of_the_endpoint_ends_a_drain(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.close()
        assert conn._stream.is_open
        server.close()
        assert not conn._stream.is_open
        with contextlib.suppress(ConnectionError):
            client.sendall(b"x")


# -- the record is what the kernel took


def test_bytes_are_recorded_as_sent_only_when_the_kernel_took_them(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with pytest.raises(WaitTimeout):
            conn.send(LARGE, timeout=0)
        recorded = len(conn.sent)
        assert 0 < recorded < len(LARGE)
        server.close()
        with contextlib.suppress(ConnectionResetError):
            assert len(read_to_eof(client)) == recorded
        assert len(conn.sent) == recorded
