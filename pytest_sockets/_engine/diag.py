"""Asking the kernel for somebody else's socket: sock_diag(7), for TCP and AF_UNIX."""

from __future__ import annotations

import _socket
import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

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
    answer = _ask(request + _ID.pack(*wanted) + struct.pack("=I", interface) + _ANY_COOKIE)
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
    state = _state(answer[1])
    return TCPPeer(state, int(struct.unpack_from("=I", answer, 56)[0]), arrived)


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


def find_unix_peer(sock: _socket.socket) -> tuple[str, int] | None:
    """Return the state and the unread bytes of the peer's socket; `None` when it is closed.

    Raises:
        Unseen: the kernel does not answer.
    """
    ours = _ask_unix(os.fstat(sock.fileno()).st_ino, _SHOW_PEER)
    if ours is None or _UNIX_PEER not in ours[1]:
        return None
    (other,) = struct.unpack("=I", ours[1][_UNIX_PEER])
    theirs = _ask_unix(other, _SHOW_QUEUE) if other else None
    if theirs is None or _UNIX_QUEUE not in theirs[1]:
        return None
    state, attributes = theirs
    unread, _ = struct.unpack("=II", attributes[_UNIX_QUEUE])
    return _state(state), unread


def _ask_unix(number: int, show: int) -> tuple[int, dict[int, bytes]] | None:
    request = struct.pack("=BBHIII", socket.AF_UNIX, 0, 0, _ANY_STATE, number, show)
    answer = _ask(request + _ANY_COOKIE)
    return None if answer is None else (answer[2], _attributes(answer, _UNIX_MESSAGE))


# -- netlink(7)


def _ask(request: bytes) -> bytes | None:
    """Return the answer to one request without its header; `None` where there is no such socket."""
    header = _HEADER.pack(_HEADER.size + len(request), _DIAG_BY_FAMILY, _REQUEST, 1, 0)
    try:
        # A socket each time: nothing to share, to leak, or to lose in a fork.
        with _closing(_socket.socket(_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG)) as netlink:
            netlink.sendto(header + request, (0, 0))
            # It is there when sendto returns.
            answer: bytes = netlink.recv(8192, socket.MSG_DONTWAIT)
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


def _state(number: int) -> str:
    return STATES.get(number, f"state {number}")


class _closing:
    """Closes a socket of the C class, which is no context manager."""

    def __init__(self, sock: _socket.socket) -> None:
        self._socket = sock

    def __enter__(self) -> Any:
        return self._socket

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()
