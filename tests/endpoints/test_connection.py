import _socket
import contextlib
import errno
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from pytest_sockets import (
    EndpointClosedError,
    EndpointError,
    Gate,
    MismatchError,
    Sockets,
    TCPServer,
    WaitTimeout,
)
from stream_ends import (
    CONSUMING,
    FOREVER,
    OWN_HOST,
    PATIENCE,
    STREAMS,
    Background,
    Ends,
    Interrupted,
    Verb,
    abort,
    forget,
    open_ends,
    plain_client,
)

LARGE = bytes(8 << 20)

pytestmark = pytest.mark.timeout(120)


def interrupt(ends: Ends, action: Callable[[], object]) -> None:
    def happen() -> None:
        action()
        assert ends.conn.transcript  # what happened is in the record now

    ends.conn.endpoint._lock = Interrupted(ends.conn.endpoint._lock, happen)


@pytest.mark.parametrize("name", CONSUMING)
def test_bytes_and_eof_that_come_while_a_verb_looks_are_not_missed(ends: Ends, name: str) -> None:
    verb, piece = CONSUMING[name]
    ends.peer.sendall(piece[:-1])
    ends.conn.assert_received(piece[:-1])

    def finish() -> None:
        ends.peer.sendall(piece[-1:])
        ends.peer.shutdown(socket.SHUT_WR)

    interrupt(ends, finish)
    assert verb(ends.conn, timeout=FOREVER) == piece


@pytest.mark.parametrize("name", ["expect_eof", "wait_eof"])
def test_an_eof_that_comes_while_a_verb_looks_is_not_missed(ends: Ends, name: str) -> None:
    interrupt(ends, lambda: ends.peer.shutdown(socket.SHUT_WR))
    getattr(ends.conn, name)(timeout=FOREVER)


def test_a_reset_that_comes_while_a_verb_looks_is_not_missed(ends: Ends) -> None:
    if not ends.is_tcp:
        ends.conn.send(b"never read")
    interrupt(ends, lambda: abort(ends.peer))
    ends.conn.expect_reset(timeout=FOREVER)


# -- a problem on our side


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("kind", STREAMS)
def test_a_problem_resets_the_connection_and_is_raised_by_every_wait(
    armed: threading.Semaphore, kind: str
) -> None:
    # Not the fixture, which would raise the problem once more at its end.
    with closing(Sockets()) as sockets, open_ends(sockets, kind) as ends:
        with Background() as pool:
            waiting = pool.submit(ends.conn.recv, 1, timeout=FOREVER)
            armed.acquire()
            ends.conn.endpoint._fail(RuntimeError("out of ink"))
            with pytest.raises(EndpointError, match="failed on its own side: out of ink") as caught:
                waiting.result()
        assert isinstance(caught.value.__cause__, RuntimeError)
        if ends.is_tcp:
            with pytest.raises(ConnectionResetError):
                ends.peer.recv(1)
        else:
            assert ends.peer.recv(1) == b""
        assert ends.conn.is_closed
        with pytest.raises(EndpointError):
            ends.conn.assert_received(b"")
        with pytest.raises(EndpointError):
            ends.conn.send(b"x")


WAITS: dict[str, Verb] = {
    **{name: verb for name, (verb, _) in CONSUMING.items()},
    "expect_eof": lambda conn, **how: conn.expect_eof(**how),
    "expect_reset": lambda conn, **how: conn.expect_reset(**how),
    "expect_nothing": lambda conn, **how: conn.expect_nothing(within=FOREVER),
    "expect_nothing_until": lambda conn, **how: conn.expect_nothing(until=Gate(), **how),
    "hold": lambda conn, **how: conn.hold(Gate(), **how),
    "wait_eof": lambda conn, **how: conn.wait_eof(**how),
    "wait_closed": lambda conn, **how: conn.wait_closed(**how),
    "assert_received": lambda conn, **how: conn.assert_received(b"x", **how),
    "assert_sent": lambda conn, **how: conn.assert_sent(contains=b"never", **how),
    "send": lambda conn, **how: conn.send(LARGE, **how),
    "send_apart": lambda conn, **how: conn.send_apart(LARGE, b"x", **how),
}
"""Verbs that wait for a peer that does nothing."""
ENDS: dict[str, Verb] = {
    "close": lambda conn, **how: conn.close(**how),
    "send_eof": lambda conn, **how: conn.send_eof(**how),
    "wait_peer_read": lambda conn, **how: conn.wait_peer_read(**how),
}
"""Verbs that wait for a peer that does not read."""


def error_of(
    server: TCPServer, armed: threading.Semaphore, name: str, act: Callable[[], object]
) -> BaseException | None:
    """Return what a verb raises when something happens while it waits."""
    with plain_client(server.address), Background() as pool:
        conn = server.accept()
        if name in ENDS:
            with contextlib.suppress(WaitTimeout):
                conn.send(LARGE, timeout=0)
        forget(armed)  # the waits so far
        waiting = pool.submit({**WAITS, **ENDS}[name], conn, timeout=FOREVER)
        armed.acquire()
        act()
        return waiting.exception(PATIENCE)


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("name", [*WAITS, *ENDS])
def test_every_wait_on_a_connection_raises_a_problem_that_comes_meanwhile(
    armed: threading.Semaphore, name: str
) -> None:
    with closing(Sockets()) as sockets:
        server = sockets.tcp_server()
        error = error_of(server, armed, name, lambda: server._fail(RuntimeError("out of ink")))
        assert error is server.problems[0]


@pytest.mark.parametrize("name", [name for name in [*WAITS, *ENDS] if name != "wait_closed"])
def test_every_wait_on_a_connection_ends_with_its_endpoint(
    sockets: Sockets, armed: threading.Semaphore, name: str
) -> None:
    server = sockets.tcp_server()
    error = error_of(server, armed, name, server.close)
    kind = MismatchError if name.startswith("assert") else EndpointClosedError
    assert type(error) is kind
    assert "is closed" in str(error)


def test_a_failure_in_its_block_ends_a_client_that_waits_in_a_thread(sockets: Sockets) -> None:
    server = sockets.tcp_server()

    def ask() -> bytes:
        with plain_client(server.address) as client:
            client.settimeout(None)  # it would wait for ever
            client.sendall(b"HELLO")
            return client.recv(1)

    def play() -> None:
        with ThreadPoolExecutor() as pool:
            answers.append(pool.submit(ask))
            with server.accept() as conn:
                conn.expect(b"HELO")

    answers: list[Future[bytes]] = []
    with pytest.raises(MismatchError):
        play()
    assert answers[0].result() == b""


# -- the client side


def test_connecting_to_a_port_where_nobody_listens_is_refused(sockets: Sockets) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        where = "127.0.0.1:{1}".format(*bound.getsockname())
        with pytest.raises(ConnectionRefusedError, match=where) as caught:
            sockets.connect(bound.getsockname())
    assert caught.value.errno == errno.ECONNREFUSED
    assert sockets.endpoints == ()


def test_connecting_to_a_missing_path_is_file_not_found(sockets: Sockets) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*/nothing"):
            sockets.connect(f"{folder}/nothing")


def test_connecting_into_silence_times_out(sockets: Sockets) -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # takes one connection; SYNs after it are dropped (listen(2), Linux)
        filler.connect(full.getsockname())
        with pytest.raises(TimeoutError, match=r"connecting to 127\.0\.0\.1:\d+ took 0 s"):
            sockets.connect(full.getsockname(), timeout=0)


@pytest.mark.parametrize("port", [int, str], ids=["number", "numeric_string"])
def test_connecting_to_a_name_tries_its_addresses(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch, port: Callable[[int], Any]
) -> None:
    def resolve(host: str, port: int, *_: object) -> list[Any]:
        assert host == "two.example"
        found = (OWN_HOST, "127.0.0.1")  # nobody listens at the first
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port)) for each in found]

    monkeypatch.setattr(_socket, "getaddrinfo", resolve)
    server = sockets.tcp_server(family="ipv4")
    conn = sockets.connect(("two.example", port(server.port)))
    server.accept().send(b"hello")
    conn.expect(b"hello")
    assert conn.peer_address == server.address


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_an_endpoint_of_ours_is_an_address(sockets: Sockets, family: str) -> None:
    server = sockets.unix_server() if family == "unix" else sockets.tcp_server(family=family)
    sockets.connect(server).send(b"hello")
    server.accept().expect(b"hello")


def test_a_full_queue_of_a_path_is_named(sockets: Sockets) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as full:
        full.bind(f"{folder}/s")
        full.listen(0)  # takes one connection
        sockets.connect(f"{folder}/s")
        with pytest.raises(BlockingIOError, match=r"/s; its queue of connections is full$"):
            sockets.connect(f"{folder}/s", timeout=0.01)


def test_a_full_queue_of_a_path_is_waited_for(sockets: Sockets, armed: threading.Semaphore) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as full:
        full.bind(f"{folder}/s")
        full.listen(0)  # takes one connection
        full.settimeout(PATIENCE)
        sockets.connect(f"{folder}/s")
        with Background() as pool:
            connecting = pool.submit(sockets.connect, f"{folder}/s")
            for _ in range(10):  # each is a look that found no room
                assert armed.acquire(timeout=PATIENCE)
            full.accept()[0].close()
            conn = connecting.result()
        with full.accept()[0] as accepted:
            accepted.sendall(b"hello")
            conn.expect(b"hello")


# -- what it is


@pytest.mark.parametrize(
    ("family", "bind"),
    [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET6, ("::1", 0)),
        (socket.AF_UNIX, ""),
        (socket.AF_UNIX, None),
    ],
    ids=["ipv4", "ipv6", "abstract", "unnamed"],
)
def test_peer_address_is_what_the_standard_library_connects_to(
    sockets: Sockets, family: int, bind: Any
) -> None:
    names = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6", socket.AF_UNIX: "unix"}
    server = sockets.stream_server(family=names[family])
    with socket.socket(family) as client:
        if bind is not None:
            client.bind(bind)
        client.connect(server.address)
        found = server.accept().peer_address
        local = client.getsockname()
    if family == socket.AF_UNIX:
        local = local.decode() if local else None
    elif family == socket.AF_INET6:
        local = local[:2]
    assert found == local


def test_a_connection_shows_what_it_is(sockets: Sockets) -> None:
    server = sockets.tcp_server(name="primary")
    with plain_client(server.address) as client:
        conn = server.accept()
        assert repr(conn) == "<Connection 0 of primary, received 0, sent 0, open>"
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        conn.wait_eof()
        conn.close()
        assert repr(conn) == "<Connection 0 of primary, received 3, sent 0, closed, peer sent eof>"
    assert conn.endpoint is server
    assert repr(conn.aio) == repr(conn) + ".aio"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_value_can_be_sent(ends: Ends, kind: Callable[[bytes], Any]) -> None:
    ends.conn.send(kind(b"ping"))
    ends.conn.send(kind(b""))
    assert ends.peer.recv(10) == b"ping"
    ends.conn.assert_sent(kind(b"ping"))
    assert [event.kind for event in ends.conn.transcript][1:] == ["sent"]


def test_a_buffer_that_changes_after_send_does_not_change_the_record(ends: Ends) -> None:
    buffer = bytearray(b"before")
    ends.conn.send(buffer)
    buffer[:] = b"after!"
    assert ends.conn.sent == b"before"
