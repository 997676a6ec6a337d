"""What this machine can do, tried on sockets of our own."""

from __future__ import annotations

import _socket
import functools
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager

from pytest_sockets._engine.binding import LOOPBACK, accept_from, new_socket
from pytest_sockets._engine.peer import Sight, sight_of_peer


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


def makes_unreachable() -> bool:
    """Whether a UDP socket that is connected to itself is as good as none for others."""
    for family, loopback in LOOPBACK.items():
        try:
            with (
                _socket_of(family, loopback) as deaf,
                _socket_of(family, loopback) as other,
            ):
                name = deaf.getsockname()
                deaf.connect(name)
                other.connect(name)
                other.send(b"?")
                other.recv(1)
        except ConnectionRefusedError:
            return True
        except Exception:  # no such loopback, or nothing has come
            continue
    return False


def passes_descriptors() -> bool:
    """Whether AF_UNIX carries open files here."""
    return hasattr(socket, "AF_UNIX") and hasattr(socket, "SCM_RIGHTS")


@contextmanager
def _socket_of(family: int, loopback: str) -> Generator[_socket.socket, None, None]:
    sock = new_socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind((loopback, 0))
        sock.settimeout(1.0)
        yield sock
    finally:
        sock.close()


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
