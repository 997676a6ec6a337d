"""Forced boundaries, and what the kernel tells of the peer; a plain blocking reader judges."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fault_ends import nothing_comes
from pausing import paused
from processes import HANGS, run_quietly
from programs import program
from pytest_sockets import (
    Connection,
    EndpointClosedError,
    PeerGoneError,
    PeerState,
    Sockets,
    StreamServer,
    UnsupportedError,
    WaitTimeout,
)
from pytest_sockets._engine import peer
from pytest_sockets.faults import Slice
from recv_spy import MOST, Spy, other_process, spying
from stream_ends import (
    FOREVER,
    PATIENCE,
    Background,
    Ends,
    abort,
    forget,
    plain_client,
    read_to_eof,
)

pytestmark = pytest.mark.timeout(120)

SUPPORT = str(Path(__file__).parents[1] / "support")
RUNS = int(os.environ.get("PYTEST_SOCKETS_REPEAT", "10"))
PIECES = [b"HTTP/1.1 2", b"00 OK\r", b"\n", b"Content-Length: 2000\r\n", b"\r", b"\n", b"x" * 2000]
FAMILIES = ["ipv4", "ipv6", "dual", "unix"]


@pytest.fixture(params=FAMILIES)
def server(request: pytest.FixtureRequest, sockets: Sockets) -> StreamServer:
    return sockets.stream_server(family=request.param)


# -- boundaries


def test_pieces_arrive_as_exactly_these_reads(server: StreamServer) -> None:
    for _ in range(RUNS):
        for address in server.addresses:
            with spying(address) as spy:
                conn = server.accept()
                conn.send_apart(*PIECES)
                conn.close()
                assert spy.reads() == PIECES


def test_pieces_arrive_in_another_process_as_exactly_these_reads(server: StreamServer) -> None:
    with other_process() as spies:
        for _ in range(RUNS):
            for address in server.addresses:
                spies.connect(address)
                conn = server.accept()
                conn.send_apart(*PIECES)
                conn.close()
                assert spies.reads() == PIECES


def test_an_ipv4_client_of_an_ipv6_socket_is_seen(sockets: Sockets) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        conn = sockets.connect(("127.0.0.1", listener.getsockname()[1]))
        sock, _ = listener.accept()
        with sock:
            spy = Spy(sock)
            conn.send_apart(*PIECES)
            conn.close()
            assert spy.reads() == PIECES


def test_bytes_that_are_only_sent_do_come_together(ends: Ends) -> None:
    # Else the tests above show nothing.
    for piece in PIECES:
        ends.conn.send(piece)
    ends.conn.close()
    assert Spy(ends.peer).reads() == [b"".join(PIECES)]


def test_the_first_piece_waits_for_what_was_sent_before(ends: Ends) -> None:
    ends.conn.send(b"before")
    with Background() as background:
        done = background.submit(ends.conn.send_apart, b"after")
        assert ends.peer.recv(MOST) == b"before"
        done.result()
    assert ends.peer.recv(MOST) == b"after"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_awaitable_twin_forces_boundaries_too(server: StreamServer) -> None:
    with spying(server.addresses[0]) as spy:
        conn = await server.aio.accept()
        await conn.aio.send_apart(*PIECES)
        await conn.aio.wait_peer_read()
        await conn.aio.close()
        assert spy.reads() == PIECES


def test_a_large_piece_ends_where_it_ends(server: StreamServer) -> None:
    large = bytes(300_000)
    with spying(server.addresses[0]) as spy:
        conn = server.accept()
        conn.send_apart(large, b"next", large)
        conn.close()
        reads = spy.reads()
    at = reads.index(b"next")
    assert b"".join(reads[:at]) == b"".join(reads[at + 1 :]) == large


# -- a peer that does not read, or leaves


def test_a_peer_that_never_reads_is_a_timeout_that_names_the_piece(ends: Ends) -> None:
    text = r"waited 0\.05 s for the peer to read piece 1 of 3, b'one' \(3 bytes unread\); 2 pieces "
    with pytest.raises(WaitTimeout, match=text + "did not go out"):
        ends.conn.send_apart(b"one", b"two", b"three", timeout=0.05)
    assert ends.conn.sent == b"one"
    assert ends.peer.recv(MOST) == b"one"


def test_a_piece_that_the_kernel_does_not_take_is_a_timeout(ends: Ends) -> None:
    with pytest.raises(WaitTimeout, match=r"send_apart waited 0\.05 s .* the kernel took"):
        ends.conn.send_apart(bytes(32_000_000), b"next", timeout=0.05)
    with pytest.raises(WaitTimeout, match=r"bytes unread, [\d,]+ still queued here"):
        ends.conn.wait_peer_read(timeout=0.05)


LEAVING: dict[str, Callable[[socket.socket], None]] = {
    "abort": abort,
    "close": socket.socket.close,  # with bytes unread: the kernel resets
}


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("verb", ["send_apart", "wait_peer_read"])
def test_a_peer_that_leaves_ends_the_wait(
    ends: Ends, armed: threading.Semaphore, verb: str, how: str
) -> None:
    ends.conn.send(b"one")
    call = {
        "send_apart": lambda: ends.conn.send_apart(b"two", timeout=FOREVER),
        "wait_peer_read": lambda: ends.conn.wait_peer_read(timeout=FOREVER),
    }[verb]
    with Background() as background:
        done = background.submit(call)
        armed.acquire()
        LEAVING[how](ends.peer)
        with pytest.raises(PeerGoneError, match="to read what was sent"):
            done.result()


def test_a_close_by_us_ends_the_pieces(ends: Ends, armed: threading.Semaphore) -> None:
    with Background() as background:
        done = background.submit(ends.conn.send_apart, b"one", b"two", timeout=FOREVER)
        armed.acquire()
        ends.conn.reset()
        with pytest.raises(EndpointClosedError):
            done.result()


def test_the_end_of_the_endpoint_ends_the_wait(ends: Ends, armed: threading.Semaphore) -> None:
    ends.conn.send(b"one")
    with Background() as background:
        done = background.submit(ends.conn.wait_peer_read, timeout=FOREVER)
        armed.acquire()
        ends.conn.endpoint.close()
        with pytest.raises(EndpointClosedError):
            done.result()


def test_a_peer_that_has_sent_eof_still_reads_pieces(ends: Ends) -> None:
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.expect_eof()
    spy = Spy(ends.peer)
    ends.conn.send_apart(*PIECES)
    ends.conn.close()
    assert spy.reads() == PIECES


@pytest.mark.parametrize("verb", ["send_apart", "wait_peer_read"])
def test_a_reset_behind_an_eof_ends_the_wait(ends: Ends, verb: str) -> None:
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.expect_eof()
    ends.conn.send(b"unread")
    ends.peer.close()
    call: dict[str, Callable[[], object]] = {
        "send_apart": lambda: ends.conn.send_apart(b"more", timeout=FOREVER),
        "wait_peer_read": lambda: ends.conn.wait_peer_read(timeout=FOREVER),
    }
    with pytest.raises(PeerGoneError, match="to read what was sent"):
        call[verb]()
    assert ends.conn.peer_ended == "reset"


def test_a_peer_that_closed_before_a_piece_gets_none_of_the_next(ends: Ends) -> None:
    ends.peer.close()
    ends.conn.expect_eof()
    with pytest.raises(PeerGoneError):
        ends.conn.send_apart(b"one", b"two", b"three", timeout=FOREVER)
    assert ends.conn.sent in (b"one", b"")


# -- has it read?


def test_what_lies_unread_was_not_read(ends: Ends) -> None:
    ends.conn.wait_peer_read(timeout=0)
    ends.conn.send(b"abc")
    with pytest.raises(WaitTimeout, match=r"waited 0 s .* \(3 bytes unread\)"):
        ends.conn.wait_peer_read(timeout=0)
    assert ends.peer.recv(2) == b"ab"
    with pytest.raises(WaitTimeout):
        ends.conn.wait_peer_read(timeout=0)
    assert ends.peer.recv(2) == b"c"
    ends.conn.wait_peer_read(timeout=0)


def test_after_our_eof_it_is_still_seen(ends: Ends) -> None:
    ends.conn.send(b"abc")
    ends.conn.send_eof()
    with pytest.raises(WaitTimeout):
        ends.conn.wait_peer_read(timeout=0)
    assert read_to_eof(ends.peer) == b"abc"
    ends.conn.wait_peer_read(timeout=FOREVER)


def test_a_peer_that_read_and_closed_has_read(ends: Ends) -> None:
    ends.conn.send(b"abc")
    assert ends.peer.recv(MOST) == b"abc"
    ends.peer.close()
    ends.conn.wait_peer_read(timeout=FOREVER)


def test_a_peer_that_closed_after_our_eof_has_read(ends: Ends) -> None:
    ends.conn.send(b"abc")
    ends.conn.send_eof()
    assert read_to_eof(ends.peer) == b"abc"
    ends.peer.close()
    ends.conn.wait_eof()
    ends.conn.wait_peer_read(timeout=FOREVER)


def test_with_both_directions_closed_nobody_can_tell(ends: Ends) -> None:
    ends.conn.send(b"abc")
    ends.peer.shutdown(socket.SHUT_WR)
    ends.conn.expect_eof()
    ends.conn.close()
    with pytest.raises(EndpointClosedError, match=r"both directions are closed; wait before close"):
        ends.conn.wait_peer_read(timeout=FOREVER)


def test_a_connection_that_is_driven_can_be_waited_for(sockets: Sockets) -> None:
    echo = sockets.echo_server()
    with plain_client(echo.address) as client:
        client.sendall(b"ping")
        conn = echo.accept()
        conn.assert_sent(b"ping")
        with pytest.raises(WaitTimeout):
            conn.wait_peer_read(timeout=0)
        assert client.recv(MOST) == b"ping"
        conn.wait_peer_read(timeout=FOREVER)


# -- the peer's state


def test_the_state_of_a_peer(ends: Ends) -> None:
    conn = ends.conn
    none = False if ends.is_tcp else None
    assert conn.peer_state == PeerState("ESTABLISHED", 0, none)
    conn.send(b"abc")
    assert conn.peer_state == PeerState("ESTABLISHED", 3, none)
    assert ends.peer.recv(2) == b"ab"
    assert conn.peer_state == PeerState("ESTABLISHED", 1, none)
    conn.send_eof()
    if ends.is_tcp:
        assert conn.peer_state == PeerState("CLOSE_WAIT", 1, eof_read=False)
    assert read_to_eof(ends.peer) == b"c"
    if ends.is_tcp:
        assert conn.peer_state == PeerState("CLOSE_WAIT", 0, eof_read=True)
    ends.peer.close()
    conn.wait_eof()
    assert conn.peer_state is None


def test_a_connection_that_nobody_has_accepted_yet_has_read_nothing(sockets: Sockets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        conn = sockets.connect(listener.getsockname())
        conn.send(b"abc")
        assert conn.peer_state == PeerState("ESTABLISHED", 3, eof_read=False)
        with pytest.raises(WaitTimeout):
            conn.wait_peer_read(timeout=0)


# -- where it cannot be known


@pytest.fixture(params=["no answer", "nothing there"])
def unseen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel answer as it does without sock_diag, and of another network namespace."""

    def look(sock: Any) -> None:
        if request.param == "no answer":
            raise peer.Unseen

    monkeypatch.setattr(peer, "find_tcp_peer", look)


@pytest.mark.usefixtures("unseen")
def test_unseen_peers_get_the_next_piece_when_some_time_has_passed(
    sockets: Sockets, armed: threading.Semaphore
) -> None:
    server = sockets.tcp_server()
    with plain_client(server.address) as client, Background(1) as pool:
        conn = server.accept()
        conn.send(b"one")
        with paused():
            forget(armed)
            sending = pool.submit(conn.send_apart, b"two")
            assert client.recv(9) == b"one"
            assert armed.acquire(timeout=PATIENCE)
            assert nothing_comes(client)
        assert client.recv(9) == b"two"
        sending.result()


@pytest.mark.usefixtures("unseen")
def test_unseen_peers_get_slices_in_the_same_distance(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "APART", 0.5)
    server = sockets.tcp_server()
    server.fault(Slice(3))
    with spying(server.address) as spy:
        conn = server.accept()
        conn.send(b"onetwo")
        conn.close()
        assert spy.reads() == [b"one", b"two"]


@pytest.mark.usefixtures("unseen")
def test_whether_unseen_peers_have_read_is_not_made_up(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with plain_client(server.address):
        conn = server.accept()
        conn.send(b"one")
        assert conn.peer_state is None
        with pytest.raises(UnsupportedError, match="cannot be seen from this network namespace"):
            conn.wait_peer_read(timeout=FOREVER)


@pytest.mark.usefixtures("unseen")
def test_an_unseen_peer_that_leaves_ends_the_pieces(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send_apart(b"one")
        abort(client)
        with pytest.raises(PeerGoneError):
            conn.send_apart(b"two", timeout=FOREVER)


@pytest.mark.usefixtures("unseen")
def test_an_unseen_peer_that_closed_ends_the_pieces(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with plain_client(server.address) as client:
        conn = server.accept()
        client.close()
        conn.expect_eof()
        with pytest.raises(PeerGoneError):
            conn.send_apart(b"one", b"two", b"three", timeout=FOREVER)


# -- bad input

BAD: list[tuple[Callable[[Connection], object], type[Exception], str]] = [
    (lambda conn: conn.send_apart(), TypeError, "send_apart needs at least one piece"),
    (lambda conn: conn.send_apart(b"a", b""), ValueError, "piece 2 is b''"),
    (lambda conn: conn.send_apart("a"), TypeError, "piece 1 must be bytes, not str 'a'"),  # type: ignore[arg-type]  # wrong on purpose
    (lambda conn: conn.send_apart(b"a", timeout=-1), ValueError, "timeout must be"),
    (lambda conn: conn.wait_peer_read(timeout=-1), ValueError, "timeout must be"),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD)
def test_bad_input_is_named(
    sockets: Sockets, call: Callable[[Connection], object], kind: type[Exception], text: str
) -> None:
    pair = sockets.unix_socket_pair()
    with pytest.raises(kind, match=text.replace("(", r"\(")):
        call(pair.peer)
    assert pair.peer.sent == b""


# -- network namespaces

ELSEWHERE = """
import ctypes, os, socket, sys
from pytest_sockets import Sockets, UnsupportedError
from recv_spy import spying

with Sockets() as sockets:
    server = sockets.tcp_server()
    with spying(server.address) as spy:
        conn = server.accept()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x40000000):  # CLONE_NEWNET: this thread asks another kernel network now
            conn.close()
            print("skip", os.strerror(ctypes.get_errno()))
            sys.exit()
        conn.send_apart(b"one", b"two", b"three")
        print("state", conn.peer_state)
        try:
            conn.wait_peer_read()
        except UnsupportedError:
            print("unknown")
        conn.close()
        print(b"".join(spy.reads()))
"""


def test_a_peer_in_another_network_namespace_is_not_seen() -> None:
    out = run_quietly(ELSEWHERE, PYTHONPATH=os.pathsep.join([SUPPORT, *sys.path]))
    if out.startswith("skip"):
        pytest.skip(f"this process may not make a network namespace: {out[5:]}")
    assert out.splitlines() == ["state None", "unknown", "b'onetwothree'"]


OWN = """
import fcntl, socket, struct
from pytest_sockets import Sockets, capabilities
from recv_spy import spying

with socket.socket() as sock:  # netdevice(7): bring the namespace's own loopback up
    fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 1))
print(capabilities["send_apart"])
with Sockets() as sockets:
    server = sockets.tcp_server()
    with spying(server.address) as spy:
        conn = server.accept()
        conn.send_apart(b"one", b"two", b"three")
        conn.close()
        print(spy.reads())
"""


def test_in_a_network_namespace_of_its_own_boundaries_are_exact() -> None:
    unshare = [program("unshare"), "--map-root-user", "--net"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine grants no namespace: {tried.stderr.decode().strip()}")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([SUPPORT, *sys.path])}
    done = subprocess.run(
        [*unshare, sys.executable, "-c", OWN],
        env=env,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["exact", "[b'one', b'two', b'three']"]
