"""What the kernel does with datagrams that nobody reads."""

from __future__ import annotations

import ctypes
import socket
import struct

from pytest_sockets._engine.datagrams import DatagramSocket

NUMBERS = struct.Struct("=9I")
"""What SO_MEMINFO tells (linux/sock_diag.h): the bytes in use first, the room second."""


def plain_socket(part: DatagramSocket) -> socket.socket:
    """Return the kernel's socket of a part, to set its options."""
    sock = part._socket
    assert sock is not None
    return sock  # type: ignore[return-value]  # the C module's class has all of it


def memory_of(part: DatagramSocket) -> tuple[int, int]:
    """Return how many bytes of a receive buffer are in use, and how many there are."""
    used, room, *_ = NUMBERS.unpack(plain_socket(part).getsockopt(socket.SOL_SOCKET, 55, 36))
    return used, room


def shrink(part: DatagramSocket) -> None:
    """Leave room for a datagram or two: the kernel takes one in any case."""
    plain_socket(part).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    assert memory_of(part)[1] < 8192


def filter_out(part: DatagramSocket) -> None:
    """Have the kernel drop all datagrams that come, so that there is never one to read."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0 bytes
    attached = struct.pack("HL", 1, ctypes.addressof(program))
    so_attach_filter = 26
    plain_socket(part).setsockopt(socket.SOL_SOCKET, so_attach_filter, attached)
