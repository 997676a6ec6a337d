"""Room for datagrams that wait to be read, and what the kernel has dropped all the same."""

from __future__ import annotations

import _socket
import socket
import struct
from typing import NamedTuple

ROOM = 8 * 1024 * 1024
"""Bytes asked for. The kernel doubles them, for what it keeps beside each datagram (socket(7):
SO_RCVBUF). Then 7,000 datagrams of 1,000 bytes can wait; with the usual default 92 can."""
SMALLEST = 512
"""Bytes that any datagram takes of it; 832 were measured for an empty one."""
MOST = 2 * ROOM // SMALLEST
"""Datagrams that can wait, at most."""

_IS_GENERIC = getattr(socket, "SO_RCVBUF", 0) == 8
"""Whether options are numbered as in Linux's asm-generic/socket.h. Python does not name these."""
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55  # Linux 4.12 and later
_MEMINFO = struct.Struct("=4xI24xI")
"""Of its numbers SK_MEMINFO_RCVBUF and SK_MEMINFO_DROPS, the last (linux/sock_diag.h)."""


def make_room(sock: _socket.socket) -> None:
    """Give a socket as large a receive buffer as the kernel grants, which is used when needed."""
    if _IS_GENERIC:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM)
        except OSError:  # only for CAP_NET_ADMIN (socket(7))
            pass
        else:
            return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)  # cut to net.core.rmem_max


class Loss(NamedTuple):
    """What one socket has lost since the last look."""

    number: int
    """Datagrams."""
    room: int
    """Bytes of its receive buffer, as the kernel counts them."""

    @property
    def why(self) -> str:
        """Why a kernel drops datagrams, and what to do about it."""
        cure = "send fewer at once, or let the sender wait for answers"
        if self.room < 2 * ROOM:
            cure = "send fewer at once, let the sender wait for answers, or raise net.core.rmem_max"
        return (
            "the kernel drops what comes faster than it can be read once the receive buffer "
            f"({self.room:,} bytes) is full; {cure}"
        )


class Losses:
    """What the kernel says that it has dropped of the datagrams for one socket.

    It counts those that found the receive buffer full, or all memory for UDP in use (udp(7):
    udp_mem), and those that had a wrong checksum or that a filter of the system held back. What is
    refused, as nobody is there, is not among them.
    """

    def __init__(self) -> None:
        self._drops = 0
        self._is_told = _IS_GENERIC

    def look(self, sock: _socket.socket) -> Loss | None:
        """Return what was lost since the last look, or at the first since the socket was made."""
        if not self._is_told:
            return None
        try:
            answer = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            room, drops = _MEMINFO.unpack(answer)
        except (OSError, struct.error):  # ENOPROTOOPT: this kernel does not tell
            self._is_told = False
            return None
        lost = (drops - self._drops) % 2**32
        self._drops = drops
        return Loss(lost, room) if lost else None
