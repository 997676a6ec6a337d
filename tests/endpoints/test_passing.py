"""Open files and credentials over AF_UNIX; the judge is the standard library's socket."""

import fcntl
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processes import forked
from pytest_sockets import (
    Connection,
    EndpointError,
    PeerCredentials,
    PeerGoneError,
    Sockets,
    UnsupportedError,
    WaitTimeout,
)
from stream_ends import FOREVER, PATIENCE, Ends, open_ends, plain_client

pytestmark = pytest.mark.timeout(120)

KINDS = ["accepted-path", "accepted-abstract", "client-path", "pair-unix"]


@pytest.fixture(params=[*KINDS, "seqpacket"])
def unix(request: pytest.FixtureRequest, sockets: Sockets) -> Iterator[Ends]:
    if request.param == "seqpacket":
        pair = sockets.socket_pair("seqpacket")
        pair.socket.settimeout(PATIENCE)
        yield Ends(pair.peer, pair.socket, is_tcp=False)
    else:
        with open_ends(sockets, request.param) as ends:
            yield ends


@pytest.fixture
def pair(sockets: Sockets) -> Ends:
    pair = sockets.unix_socket_pair()
    pair.socket.settimeout(PATIENCE)
    return Ends(pair.peer, pair.socket, is_tcp=False)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def open_files() -> dict[str, str]:
    """Return this process's descriptors, but for that of the listing itself."""
    found: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def count_of_pipe(pipe: tuple[int, int]) -> int:
    """Return how many descriptors of a pipe this process has."""
    target = os.readlink(f"/proc/self/fd/{pipe[0]}")
    return list(open_files().values()).count(target)


def same_file(fd: int, other: int) -> bool:
    return os.path.sameopenfile(fd, other) and fd != other


# -- both ways


def test_a_file_that_we_send_arrives(unix: Ends, pipe: tuple[int, int]) -> None:
    unix.conn.send_fds(b"here", [pipe[1]])
    data, fds, _, _ = socket.recv_fds(unix.peer, 100, 10)
    assert data == b"here"
    (got,) = fds
    os.write(got, b"through")
    os.close(got)
    assert os.read(pipe[0], 100) == b"through"


def test_a_file_that_the_peer_sends_arrives_and_is_not_inherited(
    unix: Ends, pipe: tuple[int, int]
) -> None:
    socket.send_fds(unix.peer, [b"here"], [pipe[1]])
    data, fds = unix.conn.recv_fds(100, 10)
    assert data == b"here"
    (got,) = fds
    assert fcntl.fcntl(got, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.write(got, b"through")
    os.close(got)
    assert os.read(pipe[0], 100) == b"through"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_awaitable_twins_pass_files_too(pair: Ends, pipe: tuple[int, int]) -> None:
    await pair.conn.aio.send_fds(b"here", [pipe[1]])
    _, (got,), _, _ = socket.recv_fds(pair.peer, 100, 10)
    socket.send_fds(pair.peer, [b"back"], [got])
    data, (back,) = await pair.conn.aio.recv_fds(100, 1)
    assert data == b"back"
    assert same_file(back, pipe[1])
    for fd in (got, back):
        os.close(fd)


def test_our_own_descriptor_may_be_closed_while_it_waits_in_the_queue(pair: Ends) -> None:
    reading, writing = os.pipe()
    with pytest.raises(WaitTimeout):
        pair.conn.send(bytes(1_000_000), timeout=0)
    with pytest.raises(WaitTimeout, match="send_fds waited 0 s"):
        pair.conn.send_fds(b"!", [writing], timeout=0)
    os.close(writing)
    got: list[int] = []
    left = 1_000_001
    while left:
        data, fds, _, _ = socket.recv_fds(pair.peer, 1 << 20, 10)
        left -= len(data)
        got += fds
    assert data[-1:] == b"!"
    (copy,) = got
    os.write(copy, b"alive")
    assert os.read(reading, 10) == b"alive"
    os.close(copy)
    os.close(reading)


def test_several_files_come_in_order(unix: Ends, pipe: tuple[int, int]) -> None:
    with open(os.devnull) as null:
        socket.send_fds(unix.peer, [b"x"], [pipe[0], null.fileno(), pipe[1]])
        data, fds = unix.conn.recv_fds(100, 10)
        assert data == b"x"
        assert all(map(same_file, fds, [pipe[0], null.fileno(), pipe[1]]))
        unix.conn.send_fds(b"y", fds)
        _, back, _, _ = socket.recv_fds(unix.peer, 100, 10)
        assert all(map(same_file, back, fds))
    for fd in fds + back:
        os.close(fd)


# -- several messages, partial reads


def test_one_call_gives_the_files_of_one_message(pair: Ends, pipe: tuple[int, int]) -> None:
    socket.send_fds(pair.peer, [b"one"], [pipe[0]])
    socket.send_fds(pair.peer, [b"two"], [pipe[1]])
    pair.peer.sendall(b"plain")
    pair.conn.assert_received(b"onetwoplain")
    for text, fd in ((b"one", pipe[0]), (b"twoplain", pipe[1])):
        data, (got,) = pair.conn.recv_fds(100, 10)
        assert data == text
        assert same_file(got, fd)
        os.close(got)


def test_files_come_with_the_first_of_their_bytes(pair: Ends, pipe: tuple[int, int]) -> None:
    socket.send_fds(pair.peer, [b"abc"], [pipe[0]])
    data, (got,) = pair.conn.recv_fds(1, 1)
    assert data == b"a"
    os.close(got)
    assert pair.conn.recv_fds(100, 1) == (b"bc", [])


def test_files_whose_bytes_another_verb_took_are_kept(pair: Ends, pipe: tuple[int, int]) -> None:
    socket.send_fds(pair.peer, [b"head"], [pipe[0]])
    pair.conn.assert_received(b"head")
    pair.peer.sendall(b"body")
    assert pair.conn.recv_exactly(4) == b"head"
    data, (got,) = pair.conn.recv_fds(100, 1)
    assert data == b"body"
    assert same_file(got, pipe[0])
    os.close(got)


def test_a_file_that_follows_plain_bytes_is_not_lost(pair: Ends, pipe: tuple[int, int]) -> None:
    with pair.conn.endpoint._lock:  # both lie in the kernel, which gives them out as one chunk
        pair.peer.sendall(b"abc")
        socket.send_fds(pair.peer, [b"x"], [pipe[0]])
    assert pair.conn.recv_exactly(3) == b"abc"
    data, (got,) = pair.conn.recv_fds(1, 1)
    assert data == b"x"
    os.close(got)


def test_files_beyond_maxfds_are_kept_for_the_next_call(pair: Ends, pipe: tuple[int, int]) -> None:
    socket.send_fds(pair.peer, [b"abc"], [pipe[0], pipe[1], pipe[0]])
    assert pair.conn.recv_fds(1, 0) == (b"a", [])
    data, first = pair.conn.recv_fds(1, 2)
    assert data == b"b"
    assert all(map(same_file, first, pipe))
    data, last = pair.conn.recv_fds(1, 2)
    assert data == b"c"
    assert same_file(*last, pipe[0])
    for fd in first + last:
        os.close(fd)


def test_without_files_it_is_recv(unix: Ends) -> None:
    unix.peer.sendall(b"abc")
    assert unix.conn.recv_fds(100, 1) == (b"abc", [])
    with pytest.raises(WaitTimeout):
        unix.conn.recv_fds(1, 1, timeout=0)
    unix.peer.close()
    assert unix.conn.recv_fds(1, 1) == (b"", [])


def test_all_that_one_message_can_carry(pair: Ends, pipe: tuple[int, int]) -> None:
    before = open_files()
    pair.conn.send_fds(b"x", [pipe[0]] * 253)
    _, got, _, _ = socket.recv_fds(pair.peer, 1, 253)
    socket.send_fds(pair.peer, [b"y"], got)
    _, back = pair.conn.recv_fds(1, 253)
    assert len(got) == len(back) == 253
    for fd in [*got, *back]:
        os.close(fd)
    assert open_files() == before


# -- nothing leaks


def test_files_that_nobody_took_are_closed_with_the_endpoint(
    sockets: Sockets, pipe: tuple[int, int]
) -> None:
    server = sockets.unix_server()
    with plain_client(server.path) as client:
        socket.send_fds(client, [b"abc"], [pipe[0], pipe[1]])
        server.assert_received(b"abc")
    server.accept().wait_eof()
    assert count_of_pipe(pipe) == 4
    server.close()
    assert count_of_pipe(pipe) == 2


def test_copies_that_never_left_are_closed_with_the_connection(
    pair: Ends, pipe: tuple[int, int]
) -> None:
    with pytest.raises(WaitTimeout):
        pair.conn.send(bytes(1_000_000), timeout=0)
    with pytest.raises(WaitTimeout):
        pair.conn.send_fds(b"x", [pipe[0]], timeout=0)
    assert count_of_pipe(pipe) == 3
    pair.peer.close()
    pair.conn.wait_closed()
    assert count_of_pipe(pipe) == 2


def test_a_forked_child_keeps_none_of_them(sockets: Sockets, pipe: tuple[int, int]) -> None:
    pair = sockets.unix_socket_pair()
    socket.send_fds(pair.socket, [b"abc"], [pipe[0]])
    pair.peer.assert_received(b"abc")
    assert count_of_pipe(pipe) == 3
    with forked(lambda: count_of_pipe(pipe)) as of_child:
        assert of_child == 2
    assert count_of_pipe(pipe) == 3


def test_after_many_exchanges_no_descriptor_is_left(pipe: tuple[int, int]) -> None:
    with Sockets() as sockets:  # the I/O thread and its descriptors are there
        sockets.unix_socket_pair()
    before = open_files()
    with Sockets() as sockets:
        server = sockets.unix_server()
        for number in range(20):
            with plain_client(server.path) as client:
                conn = server.accept()
                for _ in range(number % 4):
                    socket.send_fds(client, [b"x"], pipe)
                for _ in range(number % 3):
                    conn.send_fds(b"y", pipe)
                if number % 2 and number % 4:
                    for fd in conn.recv_fds(1, 2)[1]:
                        os.close(fd)
    assert open_files() == before


# -- what goes wrong


@pytest.mark.usefixtures("unwatched")
def test_files_that_do_not_fit_into_the_process_are_a_problem(pipe: tuple[int, int]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = Sockets().unix_server()
    with plain_client(server.path) as client:
        conn = server.accept()
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 3
        fillers: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            while True:
                try:
                    fillers.append(os.dup(pipe[0]))
                except OSError:
                    break
            os.close(fillers.pop())  # room for one of the two
            socket.send_fds(client, [b"abc"], pipe)
            with pytest.raises(EndpointError, match=r"MSG_CTRUNC.*too many open files"):
                conn.recv_exactly(4, timeout=FOREVER)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        assert conn.received == b"abc"
    server.close()
    assert count_of_pipe(pipe) == 2


def test_a_descriptor_that_is_not_open_is_named_and_nothing_is_sent(pair: Ends) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    before = open_files()
    with pytest.raises(OSError, match=rf"with descriptors \[0, {writing}\]: Bad file descriptor"):
        pair.conn.send_fds(b"x", [0, writing])
    assert open_files() == before
    pair.conn.send(b"works")
    assert pair.peer.recv(100) == b"works"


def test_a_message_too_long_sends_no_file_and_the_connection_works(
    sockets: Sockets, pipe: tuple[int, int]
) -> None:
    pair = sockets.socket_pair("seqpacket")
    with pytest.raises(OSError, match="Message too long"):
        pair.peer.send_fds(bytes(10_000_000), [pipe[0]])
    assert count_of_pipe(pipe) == 2
    pair.peer.send(b"works")
    assert socket.recv_fds(pair.socket, 100, 1)[:2] == (b"works", [])


def test_a_peer_that_left_gets_no_file(unix: Ends, pipe: tuple[int, int]) -> None:
    unix.peer.close()
    with pytest.raises(PeerGoneError):
        unix.conn.send_fds(b"x", [pipe[0]])
    assert count_of_pipe(pipe) == 2


BAD: list[tuple[Callable[[Connection], object], type[Exception], str]] = [
    (lambda conn: conn.send_fds(b"", [0]), ValueError, "at least one byte of data"),
    (lambda conn: conn.send_fds("x", [0]), TypeError, "data must be bytes, not str 'x'"),  # type: ignore[arg-type]  # wrong on purpose
    (lambda conn: conn.send_fds(b"x", []), ValueError, "1 to 253 descriptors"),
    (lambda conn: conn.send_fds(b"x", [0] * 254), ValueError, "not 254"),
    (lambda conn: conn.send_fds(b"x", 7), TypeError, "not 7: write [7]"),  # type: ignore[arg-type]  # wrong on purpose
    (lambda conn: conn.send_fds(b"x", [-1]), ValueError, "not -1: a closed file"),
    (lambda conn: conn.send_fds(b"x", [True]), TypeError, "not True"),
    (lambda conn: conn.send_fds(b"x", ["a"]), TypeError, "not 'a': use its fileno()"),  # type: ignore[list-item]  # wrong on purpose
    (lambda conn: conn.recv_fds(0, 1), ValueError, "n must be at least 1, not 0"),
    (lambda conn: conn.recv_fds(1, -1), ValueError, "maxfds must be at least 0, not -1"),
    (lambda conn: conn.recv_fds(1, 1, timeout=-1), ValueError, "timeout must be"),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD)
def test_bad_input_is_named(
    pair: Ends, call: Callable[[Connection], object], kind: type[Exception], text: str
) -> None:
    before = open_files()
    with pytest.raises(kind) as caught:
        call(pair.conn)
    assert text in str(caught.value)
    assert (pair.conn.sent, open_files()) == (b"", before)


def test_only_unix_sockets_pass_files(sockets: Sockets) -> None:
    peer = sockets.tcp_socket_pair().peer
    calls: list[Callable[[], Any]] = [
        lambda: peer.send_fds(b"x", [0]),
        lambda: peer.recv_fds(1, 1),
    ]
    for call in calls:
        with pytest.raises(UnsupportedError, match="needs AF_UNIX: descriptors do not travel"):
            call()


# -- the record


def test_the_transcript_says_how_many_files_went_and_came(
    unix: Ends, pipe: tuple[int, int]
) -> None:
    unix.conn.send_fds(b"one", pipe)
    unix.conn.send(b"none")
    socket.send_fds(unix.peer, [b"back"], [pipe[0]])
    unix.conn.assert_received(b"back")
    events = [event for event in unix.conn.transcript if event.data]
    assert [(event.data, event.note) for event in events] == [
        (b"one", "with 2 descriptors"),
        (b"none", ""),
        (b"back", "with 1 descriptor"),
    ]


# -- credentials


def test_the_credentials_of_a_client_are_those_of_the_kernel(sockets: Sockets) -> None:
    server = sockets.unix_server()
    with plain_client(server.path):
        conn = server.accept()
        assert conn.peer_credentials == PeerCredentials(os.getpid(), os.getuid(), os.getgid())
    conn.wait_eof()
    conn.close()
    assert conn.peer_credentials == (os.getpid(), os.getuid(), os.getgid())


def test_the_credentials_of_another_process_are_its_own(sockets: Sockets) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        conn = sockets.connect(listener.getsockname())
        assert conn.peer_credentials is not None
        assert conn.peer_credentials.pid == os.getpid()
    server = sockets.unix_server()
    path = server.path

    def connect() -> int:
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        return os.getpid()

    with forked(connect) as pid:
        credentials = server.accept().peer_credentials
        assert credentials is not None
        assert credentials.pid == pid != os.getpid()


def test_of_other_families_there_are_no_credentials(sockets: Sockets) -> None:
    assert sockets.tcp_socket_pair().peer.peer_credentials is None
