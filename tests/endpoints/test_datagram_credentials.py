"""Who has sent a datagram over AF_UNIX, as the kernel says."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from processes import forked, python
from pytest_sockets import (
    Datagram,
    DatagramPeer,
    PeerCredentials,
    Sockets,
    SocketsError,
    UnixDatagramPeer,
)
from pytest_sockets._engine.binding import new_socket
from stream_ends import PATIENCE

pytestmark = pytest.mark.timeout(120)

UNIX: dict[str, Callable[[Sockets], DatagramPeer]] = {
    "path": lambda sockets: sockets.unix_datagram_peer(),
    "abstract": lambda sockets: sockets.unix_datagram_peer(abstract=True),
    "any": lambda sockets: sockets.server(
        family=socket.AF_UNIX,
        type=socket.SOCK_DGRAM,
        address=b"\0credentials-%d" % os.getpid(),
    ),
}
SEND = """
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"hello", sys.argv[1])
print(os.getpid(), flush=True)
"""


def mine() -> PeerCredentials:
    return PeerCredentials(os.getpid(), os.getuid(), os.getgid())


def send(peer: UnixDatagramPeer, data: bytes = b"hello") -> int:
    """Send from an unnamed socket, and return this process's id."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, peer.address)
    return os.getpid()


@pytest.mark.parametrize("kind", UNIX)
def test_a_datagram_of_this_process_is_its_own(sockets: Sockets, kind: str) -> None:
    peer = UNIX[kind](sockets)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for data in (b"one", b"", b"two"):
            sock.sendto(data, peer.address)
    assert peer.expect(b"one").credentials == mine()
    assert [datagram.credentials for datagram in peer.datagrams] == [mine()] * 3


def test_a_program_and_a_forked_child_are_themselves(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer()
    send(peer)
    with python(SEND, peer.path) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
    with forked(lambda: send(peer)) as child:
        send(peer)
    pids = [datagram.credentials.pid for datagram in peer.datagrams if datagram.credentials]
    assert pids == [os.getpid(), pid, child, os.getpid()]
    assert len(set(pids)) == 3


def test_they_are_asked_for_before_anybody_can_send() -> None:
    # The kernel looks at the receiver when a datagram is sent, and tells nobody's of those before.
    unbound = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    assert unbound.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
    unbound.close()


def test_an_unnamed_sender_stays_unnamed(sockets: Sockets) -> None:
    # A socket that has SO_PASSCRED itself is named by the kernel when it sends (unix(7)).
    peer = sockets.unix_datagram_peer()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(peer.address)
        sock.send(b"who am I")
        assert sock.getsockname() == ""
    datagram = peer.expect(b"who am I")
    assert (datagram.source, datagram.credentials) == (None, mine())
    with pytest.raises(SocketsError, match="came from an unnamed socket"):
        peer.send(b"you?")


def test_of_a_pair_both_ends_are_known_and_the_other_one_stays_unnamed(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("datagram")
    sock.settimeout(PATIENCE)
    sock.send(b"hello")
    assert peer.expect(b"hello").credentials == mine()
    peer.send(b"goodbye")
    data, name = sock.recvfrom(100)
    assert data == b"goodbye"
    assert name[:1] == b"\0"  # the price: our end has a name now
    sock.sendto(b"by name", name)
    assert peer.expect(b"by name").source is None
    assert sock.getsockname() == ""


def test_a_rule_sees_who_asks(sockets: Sockets) -> None:
    seen: list[Datagram] = []
    peer = sockets.unix_datagram_peer()
    peer.on(b"hello", lambda datagram: seen.append(datagram))  # typed: it answers None
    send(peer)
    peer.assert_datagrams(1)
    assert [datagram.credentials for datagram in seen] == [mine()]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_of_other_families_there_are_none(sockets: Sockets, family: str) -> None:
    peer = sockets.udp_peer(family=family)
    other = sockets.udp_peer(family=family)
    other.send(b"hello", to=peer.address)
    assert peer.expect(b"hello").credentials is None


def test_other_sockets_are_left_as_they_are(sockets: Sockets) -> None:
    seqpacket, stream = sockets.socket_pair("seqpacket"), sockets.unix_socket_pair()
    for pair in (seqpacket, stream):
        assert pair._stream._socket is not None
        assert not pair._stream._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
