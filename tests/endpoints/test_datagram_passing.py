"""Open files beside datagrams; the judge is the standard library's socket."""

from __future__ import annotations

import os
import re
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processes import forked
from pytest_sockets import (
    EndpointClosedError,
    EndpointError,
    PeerGoneError,
    Sockets,
    UnixDatagramPeer,
    UnsupportedError,
    WaitTimeout,
)
from stream_ends import FOREVER, PATIENCE

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def peer(sockets: Sockets) -> UnixDatagramPeer:
    return sockets.unix_datagram_peer(name="peer")


@pytest.fixture
def client(peer: UnixDatagramPeer) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind("")
        sock.connect(peer.address)
        yield sock


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def count_of_pipe(pipe: tuple[int, int]) -> int:
    """Return how many descriptors of a pipe this process has."""
    target, found = os.readlink(f"/proc/self/fd/{pipe[0]}"), 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == target
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def close(fds: list[int]) -> int:
    for fd in fds:
        os.close(fd)
    return len(fds)


# -- both ways


def test_files_come_with_their_datagram(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    client.send(b"none")
    socket.send_fds(client, [b""], [pipe[1]])
    socket.send_fds(client, [b"two"], pipe)
    datagram, fds = peer.recv_fds()
    assert (datagram.data, fds) == (b"none", [])
    datagram, (fd,) = peer.recv_fds()
    assert (datagram.data, datagram.source) == (b"", peer.datagrams[0].source)
    assert os.path.sameopenfile(fd, pipe[1])
    assert not os.get_inheritable(fd)
    os.write(fd, b"works")
    assert os.read(pipe[0], 100) == b"works"
    datagram, fds = peer.recv_fds(2, timeout=1)
    assert (datagram.data, close([fd, *fds])) == (b"two", 3)


def test_what_was_not_taken_waits_for_the_next_call(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    socket.send_fds(client, [b"one"], pipe)
    socket.send_fds(client, [b"two"], pipe)
    socket.send_fds(client, [b"three"], pipe)
    peer.expect(b"one")
    _, fds = peer.recv_fds(3)
    _, rest = peer.recv_fds()
    assert (close(fds), close(rest)) == (3, 3)


def test_files_that_we_send_arrive(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    peer.send_fds(b"named", pipe, to=client.getsockname().decode())
    client.send(b"hello")
    peer.expect(b"hello")
    peer.send_fds(b"", [pipe[0]])
    assert count_of_pipe(pipe) == 2
    data, fds, _, _ = socket.recv_fds(client, 100, 5)
    assert (data, close(fds)) == (b"named", 2)
    data, fds, _, _ = socket.recv_fds(client, 100, 5)
    assert (data, close(fds)) == (b"", 1)


def test_a_pair_passes_files_both_ways(sockets: Sockets, pipe: tuple[int, int]) -> None:
    sock, peer = sockets.socket_pair("datagram")
    socket.send_fds(sock, [b"there"], [pipe[0]])
    datagram, fds = peer.recv_fds()
    assert (datagram.data, close(fds)) == (b"there", 1)
    peer.send_fds(b"back", [pipe[0]])
    assert close(socket.recv_fds(sock, 100, 1)[1]) == 1


def test_the_transcript_says_how_many_files_went_and_came(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    socket.send_fds(client, [b"came"], pipe)
    client.send(b"none")
    peer.assert_datagrams(2)
    peer.send_fds(b"went", [pipe[0]])
    assert [(event.data, event.note) for event in peer.transcript] == [
        (b"came", "with 2 descriptors"),
        (b"none", ""),
        (b"went", "with 1 descriptor"),
    ]


@pytest.mark.anyio
async def test_the_verbs_are_awaitable_too(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    socket.send_fds(client, [b"hello"], [pipe[0]])
    datagram, fds = await peer.aio.recv_fds(1)
    assert (datagram.data, close(fds)) == (b"hello", 1)
    await peer.aio.send_fds(b"back", [pipe[0]])
    assert close(socket.recv_fds(client, 100, 1)[1]) == 1


# -- nothing leaks


def test_what_nobody_took_is_closed_with_the_endpoint(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    socket.send_fds(client, [b"recorded"], pipe)
    peer.assert_datagrams(1)
    assert count_of_pipe(pipe) == 4
    with peer._lock:
        socket.send_fds(client, [b"queued"], pipe)
        peer.close()
    assert count_of_pipe(pipe) == 2
    assert [(datagram.data, fds) for datagram, fds in (peer.recv_fds(), peer.recv_fds())] == [
        (b"recorded", []),
        (b"queued", []),
    ]
    with pytest.raises(EndpointClosedError):
        peer.recv_fds()


def test_a_forked_child_keeps_none_of_them(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    socket.send_fds(client, [b"x"], pipe)
    peer.assert_datagrams(1)
    with forked(lambda: count_of_pipe(pipe)) as count:
        assert count == 2
    assert close(peer.recv_fds()[1]) == 2


@pytest.mark.usefixtures("forgiven")
def test_files_that_the_kernel_cannot_hand_over_are_a_problem(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
        while True:
            try:
                fillers.append(os.dup(client.fileno()))
            except OSError:
                break
        os.close(fillers.pop())  # room for one of the two
        socket.send_fds(client, [b"abc"], pipe)
        with pytest.raises(EndpointError, match=r"MSG_CTRUNC.*too many open files"):
            peer.wait_datagrams(2, timeout=FOREVER)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        close(fillers)
    peer.close()
    assert count_of_pipe(pipe) == 2


# -- failing


def test_a_wait_for_files_says_what_came_before(
    peer: UnixDatagramPeer, client: socket.socket
) -> None:
    client.send(b"one")
    peer.recv_fds()
    text = "peer: waited 0.01 s for a datagram; 1 datagram came before it"
    with pytest.raises(WaitTimeout, match=re.escape(text)):
        peer.recv_fds(timeout=0.01)


def test_what_cannot_be_sent_is_said_and_nothing_is_recorded(
    peer: UnixDatagramPeer, client: socket.socket, pipe: tuple[int, int]
) -> None:
    reading, writing = os.pipe()
    close([reading, writing])
    name = client.getsockname().decode()
    text = rf"with descriptors \[0, {writing}\]"
    with pytest.raises(OSError, match=rf"Bad file descriptor to .* {text}"):
        peer.send_fds(b"x", [0, writing], to=name)
    client.close()
    with pytest.raises(PeerGoneError):
        peer.send_fds(b"x", pipe, to=name)
    assert peer.sent == []
    assert count_of_pipe(pipe) == 2


BAD: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda peer: peer.send_fds("x", [0]), TypeError, "data must be bytes, not str 'x'"),
    (lambda peer: peer.send_fds(b"x", []), ValueError, "1 to 253 descriptors"),
    (lambda peer: peer.send_fds(b"x", 7), TypeError, "not 7: write [7]"),
    (lambda peer: peer.recv_fds(-1), ValueError, "maxfds must be at least 0, not -1"),
    (lambda peer: peer.recv_fds(timeout=-1), ValueError, "timeout must be"),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD)
def test_bad_input_is_named(
    peer: UnixDatagramPeer, call: Callable[[Any], object], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        call(peer)
    assert text in str(caught.value)
    assert peer.sent == []


def test_only_unix_sockets_pass_files(sockets: Sockets) -> None:
    peer = sockets.udp_peer()
    calls: list[Callable[[], Any]] = [lambda: peer.send_fds(b"x", [0]), peer.recv_fds]
    for call in calls:
        with pytest.raises(UnsupportedError, match="needs AF_UNIX: descriptors do not travel"):
            call()
