"""What the kernel tells of the other end of a stream: what it has read, and its state.

There is no event for it: who wants to know asks again. For TCP the kernel is asked of the *peer's*
socket (sock_diag(7)), which has to be in this network namespace; for AF_UNIX, of our own.
"""

from __future__ import annotations

import _socket
import array
import enum
import errno
import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_sockets._engine.binding import LOOPBACK
from pytest_sockets._engine.clock import Deadline, Pauses
from pytest_sockets._engine.diag import TCPPeer, Unseen, find_tcp_peer, find_unix_peer

if TYPE_CHECKING:
    from pytest_sockets._engine.stream_base import StreamBase

UNSEEN = 0.2
"""Seconds without a sign of the peer's socket, nor of its end, after which it is somewhere else."""
APART = 0.02
"""Seconds between two pieces where it cannot be known whether the peer has read the first."""

_GOT_FIN = frozenset({"CLOSE_WAIT", "LAST_ACK", "CLOSING", "TIME_WAIT"})


@dataclass(frozen=True, slots=True)
class PeerState:
    """What the kernel says of the peer's socket."""

    state: str
    """The kernel's name, ``"ESTABLISHED"``, ``"CLOSE_WAIT"`` (it has our EOF), …; AF_UNIX has only
    the first."""
    unread: int
    """Bytes that lie in its receive buffer, unread."""
    eof_read: bool | None
    """Whether it has taken our EOF; `None` where that cannot be known, as of AF_UNIX."""


class Sight(enum.Enum):
    """What a look at the peer's end has shown."""

    READ = enum.auto()
    """It has read all that the kernel took from us."""
    UNREAD = enum.auto()
    """It has not."""
    GONE = enum.auto()
    """No such socket can be seen: it was closed, or is somewhere else."""
    BLIND = enum.auto()
    """The kernel does not tell: of this family, or as the peer is somewhere else."""


class Looks:
    """The looks of one who waits until the peer of a stream has read what went out.

    Args:
        may_guess: whether a BLIND look is followed by a guess: that the peer has read when its
            kernel has had all for some time.
    """

    def __init__(self, stream: StreamBase, *, may_guess: bool) -> None:
        self.pauses = Pauses()
        self._stream = stream
        self._may_guess = may_guess
        self._apart: Deadline | None = None

    def look(self) -> Sight:
        """Look once. With the endpoint's lock held, while the stream is open."""
        sight = self._stream.look()
        if sight is not Sight.BLIND or not self._may_guess:
            return sight
        if self._stream.unacknowledged:
            return Sight.UNREAD
        self._apart = self._apart or Deadline(APART)
        return Sight.UNREAD if self._apart.remaining() else Sight.READ


def sight_of_peer(sock: _socket.socket, taken: int) -> Sight:
    """Look whether the peer has read the `taken` bytes that the kernel took from us."""
    if sock.family == socket.AF_UNIX:
        # A peer that closes with bytes unread has them thrown away, after it has left us the error.
        if outgoing(sock):
            return Sight.UNREAD
        return Sight.GONE if _has_error(sock) else Sight.READ
    if not is_tcp(sock):
        return Sight.BLIND
    try:
        peer = find_tcp_peer(sock)
        if _has_read(peer, taken):
            # The kernel tells what is unread as it is before it waits for a call that reads, and
            # what has arrived as it is after that (tcp_diag_get_info). All had arrived before this
            # second look, so what it finds unread is all that is.
            peer = find_tcp_peer(sock)
    except Unseen:
        return Sight.BLIND
    if peer is None:
        return Sight.GONE
    if peer.arrived is None:
        # A request that was not accepted has read nothing; of a TIME_WAIT nobody is left to read.
        return Sight.UNREAD if peer.state == "SYN_RECV" else Sight.GONE
    return Sight.READ if _has_read(peer, taken) else Sight.UNREAD


def state_of_peer(sock: _socket.socket) -> PeerState | None:
    """Return what the kernel says of the peer's socket; `None` where there is none to be seen."""
    try:
        if sock.family == socket.AF_UNIX:
            found = find_unix_peer(sock)
            return None if found is None else PeerState(*found, eof_read=None)
        peer = find_tcp_peer(sock) if is_tcp(sock) else None
    except Unseen:
        return None
    if peer is None:
        return None
    eof_read = peer.state in _GOT_FIN and not peer.queued
    return PeerState(peer.state, _unread(peer), eof_read)


def outgoing(sock: _socket.socket) -> int:
    """Return what SIOCOUTQ counts (unix(7), tcp(7)); 0 where the family does not know it.

    That is what the peer has not read for AF_UNIX, what its kernel has not acknowledged for TCP.
    """
    import fcntl  # here: Windows has neither
    import termios

    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    return count[0]


def _has_error(sock: _socket.socket) -> bool:
    poll = select.poll()  # looks and does not take it, as SO_ERROR would
    poll.register(sock.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def is_tcp(sock: _socket.socket) -> bool:
    """Whether a stream is plain TCP: of MPTCP a look-up would find one subflow's socket."""
    return (
        sock.family in LOOPBACK
        and sock.type == socket.SOCK_STREAM
        and sock.proto in (0, socket.IPPROTO_TCP)
    )


def _has_read(peer: TCPPeer | None, taken: int) -> bool:
    if peer is None or peer.arrived is None:
        return False
    return peer.arrived >= taken and not _unread(peer)


def _unread(peer: TCPPeer) -> int:
    return peer.queued - (peer.queued > 0 and peer.state in _GOT_FIN)
