"""Open files beside datagrams that meet faults; the judge is the standard library's socket."""

from __future__ import annotations

import os
import re
import resource
import socket
from collections.abc import Iterator

import pytest

from processes import forked
from pytest_sockets import Sockets, UnixDatagramPeer
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets.faults import (
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Effect,
    Reorder,
    Truncate,
    WrongSource,
)
from stream_ends import FOREVER, PATIENCE

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def peer(sockets: Sockets) -> UnixDatagramPeer:
    return sockets.unix_datagram_peer(name="peer")


@pytest.fixture
def client(peer: UnixDatagramPeer) -> Iterator[socket.socket]:
    """Yield a plain socket whose datagram the peer has had, so that it knows whom to answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind("")
        sock.sendto(b"hello", peer.address)
        peer.expect(b"hello")
        yield sock


class Pipe:
    """A pipe of which the test has the reading end; how often it can be written to shows in EOF."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def send(self, peer: DatagramEndpoint, data: bytes) -> None:
        """Send the writing end, and close ours."""
        peer.send_fds(data, [self.writing])
        os.close(self.writing)

    @property
    def is_held(self) -> bool:
        """Whether anybody has a writing end, a queue of the kernel's included."""
        try:
            return os.read(self.reading, 100) != b""
        except BlockingIOError:
            return True

    def count(self) -> int:
        """Return how many descriptors of the pipe this process has."""
        target, found = os.readlink(f"/proc/self/fd/{self.reading}"), 0
        for name in os.listdir("/proc/self/fd"):
            try:
                found += os.readlink(f"/proc/self/fd/{name}") == target
            except FileNotFoundError:  # that of the listing itself
                continue
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)


def receive(sock: socket.socket, pipe: Pipe) -> tuple[bytes, int]:
    """Return a datagram and how many descriptors came with it, each a writing end that works."""
    data, fds, _, _ = socket.recv_fds(sock, 100, 10)
    for fd in fds:
        os.write(fd, b"works")
        assert os.read(pipe.reading, 100) == b"works"
        os.close(fd)
    return data, len(fds)


@pytest.mark.parametrize(
    ("effect", "came"),
    [
        (Drop(), []),
        (Duplicate(), [(b"abc", 1), (b"abc", 1)]),
        (Reorder(), [(b"abc", 1)]),
        (Delay(FOREVER), [(b"abc", 1)]),
        (Truncate(0), [(b"", 1)]),
        (WrongSource(), [(b"abc", 1)]),
    ],
    ids=repr,
)
def test_files_share_the_fate_of_their_datagram(
    peer: UnixDatagramPeer,
    client: socket.socket,
    pipe: Pipe,
    effect: Effect,
    came: list[tuple[bytes, int]],
) -> None:
    with peer.fault(effect):
        pipe.send(peer, b"abc")
    assert [receive(client, pipe) for _ in came] == came
    assert not pipe.is_held
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    notes = [event.note for event in peer.transcript if event.kind == "sent"]
    assert all(note.startswith("with 1 descriptor") for note in notes)
    assert len(notes) == len(came)


def test_files_stay_whole_beside_corrupt_bytes(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe
) -> None:
    peer.fault(Corrupt())
    pipe.send(peer, b"abc")
    data, number = receive(client, pipe)
    assert (data != b"abc", number) == (True, 1)
    assert not pipe.is_held


def test_files_are_reordered_with_their_datagram(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe
) -> None:
    peer.fault(Reorder(), times=1)
    pipe.send(peer, b"first")
    peer.send(b"second")
    assert [receive(client, pipe), receive(client, pipe)] == [(b"second", 0), (b"first", 1)]
    assert not pipe.is_held


def test_files_come_late_by_themselves(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe
) -> None:
    peer.fault(Delay(0.01))
    pipe.send(peer, b"late")
    assert receive(client, pipe) == (b"late", 1)
    peer.close()
    assert not pipe.is_held


def test_files_pass_several_faults_that_keep_them(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe
) -> None:
    delay = peer.fault(Delay(FOREVER))
    peer.fault(Duplicate())
    reorder = peer.fault(Reorder(), times=1)
    pipe.send(peer, b"abc")
    delay.lift()  # the second copy overtakes the first
    assert [receive(client, pipe), receive(client, pipe)] == [(b"abc", 1), (b"abc", 1)]
    assert reorder.hits == 1
    assert not pipe.is_held


@pytest.mark.parametrize("effect", [Reorder(), Delay(FOREVER)], ids=repr)
def test_files_that_are_kept_back_are_closed_at_the_end(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe, effect: Effect
) -> None:
    peer.fault(effect)
    pipe.send(peer, b"abc")
    assert pipe.is_held
    peer.close()
    assert not pipe.is_held


def test_a_forked_child_does_not_hold_what_is_kept_back(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe
) -> None:
    peer.fault(Delay(FOREVER))
    pipe.send(peer, b"abc")
    with forked(pipe.count) as count:
        assert count == 1
    assert pipe.count() == 2
    peer.close()
    assert not pipe.is_held


@pytest.mark.parametrize("effect", [Duplicate(), Reorder(), Delay(FOREVER)], ids=repr)
def test_a_file_that_is_not_open_is_said_at_once(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe, effect: Effect
) -> None:
    os.close(pipe.writing)
    with peer.fault(effect):
        text = rf"Bad file descriptor to .* with descriptors \[{pipe.writing}\]"
        with pytest.raises(OSError, match=text):
            peer.send_fds(b"x", [pipe.writing])
    assert peer.sent == []


def test_a_late_datagram_is_lost_where_its_files_cannot_be_kept(
    peer: UnixDatagramPeer, client: socket.socket, pipe: Pipe
) -> None:
    delay = peer.fault(Delay(FOREVER))
    peer.fault(Reorder())
    pipe.send(peer, b"abc")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        delay.lift()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (note,) = [event.note for event in peer.transcript if event.note.startswith("lost: ")]
    assert re.match(r"lost: datagram 0 \(3 bytes\) to .*: .*Too many open files", note)
    assert not pipe.is_held
    assert peer.sent == []


def test_a_pair_passes_files_through_faults(sockets: Sockets, pipe: Pipe) -> None:
    sock, peer = pair = sockets.socket_pair("datagram")
    with pair.fault(Delay(FOREVER)):
        pipe.send(peer, b"abc")
    assert receive(sock, pipe) == (b"abc", 1)
    assert not pipe.is_held
