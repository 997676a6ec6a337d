"""Who is at the other end of AF_UNIX, as the kernel tells it (unix(7))."""

from __future__ import annotations

import _socket
import socket
import struct
from collections.abc import Iterable

from pytest_sockets._wire.events import PeerCredentials

_UCRED = struct.Struct("=iII")
CREDENTIALS_ROOM = _socket.CMSG_SPACE(_UCRED.size) if hasattr(_socket, "CMSG_SPACE") else 0
"""Bytes that they take in what comes beside a message."""


def credentials_of(sock: _socket.socket) -> PeerCredentials | None:
    """Return who is at the other end of an AF_UNIX stream; `None` for other families."""
    if sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    answer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return PeerCredentials._make(_UCRED.unpack(answer))


def ask_for_credentials(sock: _socket.socket) -> None:
    """Have the kernel add to each AF_UNIX datagram who sent it; nothing for other sockets.

    It looks when the datagram is sent, so this comes before anybody can.
    """
    is_ours = sock.family == socket.AF_UNIX and sock.type == socket.SOCK_DGRAM
    if is_ours and hasattr(socket, "SO_PASSCRED"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def credentials_beside(beside: Iterable[tuple[int, int, bytes]]) -> PeerCredentials | None:
    """Return who sent a message, from what came beside it; `None` where that does not say."""
    for level, kind, content in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return PeerCredentials._make(_UCRED.unpack(content))
    return None


def is_at_end(sock: _socket.socket) -> bool:
    """Whether what reads as empty on AF_UNIX's SOCK_SEQPACKET is the end, not an empty message.

    A message has its sender beside it, for one who asks; the end has none. Asked for at this look
    alone: a socket that goes on asking is given a name of its own when it sends (unix(7)).

    Raises:
        BlockingIOError: there is neither.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    try:
        beside = sock.recvmsg(1, CREDENTIALS_ROOM, socket.MSG_PEEK)[1]
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    return credentials_beside(beside) is None
