"""What the kernel tells of the other end of a stream: what it has read, its state, who it is.

There is no event for it: who wants to know asks again. For TCP the kernel is asked of the *peer's*
socket (sock_diag(7)), which has to be in this network namespace; for AF_UNIX, of our own.
"""

from __future__ import annotations

import _socket
import array
import enum
import errno
import fcntl
import functools
import os
import select
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Any, NamedTuple

from pytest_sockets._engine.binding import LOOPBACK, accept_from, new_socket

OUTQ = termios.TIOCOUTQ
"""SIOCOUTQ (unix(7), tcp(7)): AF_UNIX counts what the peer has not read, TCP what its kernel has
not acknowledged."""

_NETLINK, _SOCK_DIAG = 16, 4  # AF_NETLINK, NETLINK_SOCK_DIAG
_DIAG_BY_FAMILY, _ERROR, _REQUEST = 20, 2, 1
_INFO, _ULP_INFO = 2, 19
_BYTES_RECEIVED = 128
"""Offset of tcpi_bytes_received in tcp_info, there since Linux 4.1."""
_MAPPED = bytes(10) + b"\xff\xff"
_ANY_STATE, _ANY_COOKIE = 0xFFFFFFFF, b"\xff" * 8
_SHOW_PEER, _SHOW_QUEUE = 0x4, 0x10
_UNIX_PEER, _UNIX_QUEUE = 2, 4

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ID = struct.Struct("!HH16s16s")  # of inet_diag_sockid, what is in network order
_ATTRIBUTE = struct.Struct("=HH")  # rtattr
_MESSAGE = 72  # sizeof(inet_diag_msg)
_UNIX_MESSAGE = 16  # sizeof(unix_diag_msg)

STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "SYN_RECV",  # a connection request that has no socket yet
}
"""The kernel's names (include/net/tcp_states.h)."""
GOT_FIN = frozenset({"CLOSE_WAIT", "LAST_ACK", "CLOSING", "TIME_WAIT"})


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


class PeerCredentials(NamedTuple):
    """Who is at the other end of an AF_UNIX stream (unix(7): SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


for _name, _text in (
    ("pid", "The process that connected, or listened; 0 where our PID namespace has none of it."),
    ("uid", "Its effective user id at that moment."),
    ("gid", "Its effective group id at that moment."),
):
    getattr(PeerCredentials, _name).__doc__ = _text  # else "Alias for field number 0"


class Sight(enum.Enum):
    """What a look at the peer's end has shown."""

    READ = enum.auto()
    """It has read all that the kernel took from us."""
    UNREAD = enum.auto()
    """It has not."""
    GONE = enum.auto()
    """No such socket can be seen: it was closed, or is somewhere else."""
    BLIND = enum.auto()
    """Of this family, the kernel does not tell."""


class Unseen(Exception):
    """The kernel does not answer: it has no sock_diag, or does not let us ask."""


@dataclass(frozen=True, slots=True)
class TCPPeer:
    """The answer to a look-up."""

    state: str
    queued: int
    """Bytes unread, and one for a FIN that was not read either."""
    arrived: int | None
    """Bytes that have arrived, and one for a FIN; `None` of a socket that has no data, such as one
    in TIME_WAIT."""


def credentials_of(sock: _socket.socket) -> PeerCredentials | None:
    """Return who is at the other end of an AF_UNIX socket; `None` for other families."""
    if sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    form = struct.Struct("=iII")
    answer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    return PeerCredentials._make(form.unpack(answer))


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
    except Unseen:
        return Sight.BLIND
    if peer is None:
        return Sight.GONE
    if peer.arrived is None:
        # A request that was not accepted has read nothing; of a TIME_WAIT nobody is left to read.
        return Sight.UNREAD if peer.state == "SYN_RECV" else Sight.GONE
    return Sight.UNREAD if peer.arrived < taken or _unread(peer) else Sight.READ


def state_of_peer(sock: _socket.socket) -> PeerState | None:
    """Return what the kernel says of the peer's socket; `None` where there is none to be seen."""
    try:
        if sock.family == socket.AF_UNIX:
            return _unix_peer(sock)
        peer = find_tcp_peer(sock) if is_tcp(sock) else None
    except Unseen:
        return None
    if peer is None:
        return None
    eof_read = peer.state in GOT_FIN and not peer.queued
    return PeerState(peer.state, _unread(peer), eof_read)


def outgoing(sock: _socket.socket) -> int:
    """Return what `OUTQ` counts; 0 where the family does not know it."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), OUTQ, count)
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


@functools.cache
def tells_of_tcp() -> bool:
    """Whether this machine tells of a TCP peer, tried once per process on a pair of our own."""
    for family, loopback in LOOPBACK.items():
        try:
            with _Pair(family, loopback) as (ours, theirs):
                ours.send(b"?")
                if sight_of_peer(ours, 1) is not Sight.UNREAD:
                    return False
                theirs.recv(1)
                return sight_of_peer(ours, 1) is Sight.READ
        except Exception:  # no such loopback, or no more descriptors: nothing is known of it
            continue
    return False


def resets() -> bool:
    """Whether SO_LINGER of 0 seconds makes a close a reset (socket(7))."""
    for family, loopback in LOOPBACK.items():
        try:
            with _Pair(family, loopback) as (ours, theirs):
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                ours.close()
                theirs.recv(1)
        except ConnectionResetError:
            return True
        except Exception:  # no such loopback
            continue
    return False


def passes_descriptors() -> bool:
    """Whether AF_UNIX carries open files here."""
    return hasattr(socket, "AF_UNIX") and hasattr(socket, "SCM_RIGHTS")


class _Pair:
    """Two connected sockets over loopback."""

    def __init__(self, family: int, loopback: str) -> None:
        self._sockets: list[_socket.socket] = []
        try:
            listener = self._own(new_socket(family, socket.SOCK_STREAM))
            listener.bind((loopback, 0))
            listener.listen(1)
            self._own(_socket.socket(family, socket.SOCK_STREAM)).connect(listener.getsockname())
            listener.setblocking(True)
            self._own(accept_from(listener)[0]).settimeout(1.0)
        except BaseException:
            self.__exit__()
            raise

    def _own(self, sock: _socket.socket) -> _socket.socket:
        self._sockets.append(sock)
        return sock

    def __enter__(self) -> tuple[_socket.socket, _socket.socket]:
        return self._sockets[1], self._sockets[2]

    def __exit__(self, *exc_info: object) -> None:
        for sock in self._sockets:
            sock.close()


# -- TCP: inet_diag


def find_tcp_peer(sock: _socket.socket) -> TCPPeer | None:
    """Look the peer's socket up; `None` where there is none in this network namespace.

    Raises:
        Unseen: the kernel does not answer, or the peer is of a kind whose numbers mean else.
    """
    try:
        ours, theirs = sock.getsockname(), sock.getpeername()
    except OSError:  # ENOTCONN: it was reset
        return None
    local, remote = _packed(sock.family, ours[0]), _packed(sock.family, theirs[0])
    family = socket.AF_INET if len(local) == len(remote) == 4 else socket.AF_INET6
    wanted = (theirs[1], ours[1], remote, local)
    interface = theirs[3] if len(theirs) > 3 else 0
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ANY_STATE)
    answer = _ask(
        request + _ID.pack(*wanted) + struct.pack("=I", interface) + _ANY_COOKIE,
    )
    # A gone peer can answer with the listener on its port.
    if answer is None or _identity(answer[0], answer[4:40]) != wanted:
        return None
    attributes = _attributes(answer, _MESSAGE)
    if _ULP_INFO in attributes:
        # MPTCP moves bytes out of the subflow's buffer at once, before anybody reads them.
        raise Unseen
    info = attributes.get(_INFO, b"")
    arrived = None
    if len(info) >= _BYTES_RECEIVED + 8:
        arrived = int(struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0])
    state = STATES.get(answer[1], f"state {answer[1]}")
    return TCPPeer(state, int(struct.unpack_from("=I", answer, 56)[0]), arrived)


def _unread(peer: TCPPeer) -> int:
    return peer.queued - (peer.queued > 0 and peer.state in GOT_FIN)


def _packed(family: int, host: str) -> bytes:
    """Return an address in network order; 4 bytes also where IPv6 carries an IPv4 one."""
    return _unmapped(_socket.inet_pton(family, host.partition("%")[0]))


def _unmapped(packed: bytes) -> bytes:
    # Both ends of a connection to a dual-stack socket have addresses of one form on the wire.
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _identity(family: int, packed: bytes) -> tuple[int, int, bytes, bytes]:
    port, other_port, *addresses = _ID.unpack(packed)
    size = 4 if family == socket.AF_INET else 16
    source, other = (_unmapped(raw[:size]) for raw in addresses)
    return port, other_port, source, other


# -- AF_UNIX: unix_diag


def _unix_peer(sock: _socket.socket) -> PeerState | None:
    number = os.fstat(sock.fileno()).st_ino
    ours = _ask_unix(number, _SHOW_PEER)
    if ours is None or _UNIX_PEER not in ours[1]:
        return None
    (other,) = struct.unpack("=I", ours[1][_UNIX_PEER])
    theirs = _ask_unix(other, _SHOW_QUEUE) if other else None
    if theirs is None or _UNIX_QUEUE not in theirs[1]:
        return None
    unread, _ = struct.unpack("=II", theirs[1][_UNIX_QUEUE])
    state, _ = theirs
    return PeerState(STATES.get(state, f"state {state}"), unread, None)


def _ask_unix(number: int, show: int) -> tuple[int, dict[int, bytes]] | None:
    request = struct.pack("=BBHIII", socket.AF_UNIX, 0, 0, _ANY_STATE, number, show)
    answer = _ask(request + _ANY_COOKIE)
    return None if answer is None else (answer[2], _attributes(answer, _UNIX_MESSAGE))


# -- netlink(7)


def _ask(request: bytes) -> bytes | None:
    """Return the answer to one request without its header; `None` where there is no such socket."""
    header = _HEADER.pack(_HEADER.size + len(request), _DIAG_BY_FAMILY, _REQUEST, 1, 0)
    try:
        # A socket each time (see `tests/bench`): nothing to share, to leak, or to lose in a fork.
        with _closing(_socket.socket(_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG)) as netlink:
            netlink.sendto(header + request, (0, 0))
            answer = netlink.recv(8192, socket.MSG_DONTWAIT)  # it is there when sendto returns
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise Unseen from error
    _, kind, *_ = _HEADER.unpack_from(answer)
    body = answer[_HEADER.size :]
    if kind == _DIAG_BY_FAMILY:
        return body
    if kind == _ERROR and -struct.unpack_from("=i", body)[0] == errno.ENOENT:
        return None
    raise Unseen


def _attributes(answer: bytes, start: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while start + _ATTRIBUTE.size <= len(answer):
        size, kind = _ATTRIBUTE.unpack_from(answer, start)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = answer[start + _ATTRIBUTE.size : start + size]
        start += (size + 3) & ~3
    return found


class _closing:
    """Closes a socket of the C class, which is no context manager."""

    def __init__(self, sock: _socket.socket) -> None:
        self._socket = sock

    def __enter__(self) -> Any:
        return self._socket

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()
