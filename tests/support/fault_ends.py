"""What a plain socket meets at the other end of a fault, and what the record says of it."""

from __future__ import annotations

import socket

from pytest_sockets import Connection

GREETING = b"hello world"


def read_to_the_end(sock: socket.socket) -> tuple[bytes, str]:
    """Read with the standard library to the end, and say whether it was ``"EOF"`` or a reset."""
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data, "ECONNRESET"
        if not piece:
            return data, "EOF"
        data += piece


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes with the standard library, or those before an earlier EOF."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def nothing_comes(sock: socket.socket) -> bool:
    """Whether the kernel has neither a byte nor an end for a plain socket now."""
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(timeout)
    return False


def faults_of(conn: Connection) -> list[str]:
    """Return what the transcript says of the faults that have acted."""
    return [event.note for event in conn.transcript if event.kind == "fault"]


def sent_chunks(conn: Connection) -> list[bytes]:
    """Return what the kernel took from us, call by call."""
    return [event.data for event in conn.transcript if event.kind == "sent"]
