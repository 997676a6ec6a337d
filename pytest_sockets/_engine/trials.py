"""What this machine can do, tried on sockets of our own."""

from __future__ import annotations

import _socket
import errno
import functools
import socket
import struct
from collections.abc import Generator
from contextlib import closing, contextmanager

from pytest_sockets._engine.binding import (
    LOOPBACK,
    LOOPBACKS,
    accept_from,
    bind_inet,
    new_socket,
)
from pytest_sockets._engine.blackhole import fill_queue
from pytest_sockets._engine.peer import Sight, sight_of_peer
from pytest_sockets._engine.rebinding import rebind_inet


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


def refuses() -> bool:
    """Whether nobody can connect to a socket that is bound and does not listen."""
    with _bound() as sock:
        return sock is not None and _connects(sock) == errno.ECONNREFUSED


def has_blackhole() -> bool:
    """Whether a full queue drops who connects."""
    with _bound() as sock:
        if sock is None:
            return False
        try:
            fillers = fill_queue(sock)
        except Exception:  # the kernel lets everybody in, or does not tell
            return False
        for filler in fillers:
            filler.close()
        return True


def goes_down() -> bool:
    """Whether a listening socket can be replaced by one that refuses, and that listens later."""
    with _bound() as sock:
        if sock is None:
            return False
        sock.listen()
        try:
            with closing(rebind_inet(sock, sock.close)) as fresh:
                refused = _connects(fresh) == errno.ECONNREFUSED
                fresh.listen()
                return refused and not _connects(fresh)
        except Exception:  # the port cannot be shared for the moment
            return False


def binds(family: str) -> bool:
    """Whether there are the loopbacks of a family, or both on one port."""
    try:
        bound = bind_inet(family, None, 0, socket.SOCK_STREAM)
    except Exception:  # no such loopback
        return False
    for sock in bound:
        sock.close()
    return True


def binds_path() -> bool:
    """Whether there is AF_UNIX."""
    try:
        new_socket(socket.AF_UNIX, socket.SOCK_STREAM).close()
    except Exception:  # no such family
        return False
    return True


@contextmanager
def _bound() -> Generator[_socket.socket | None, None, None]:
    """Bind a socket on a loopback; `None` where there is none."""
    for family in LOOPBACKS:
        try:
            (sock,) = bind_inet(family, None, 0, socket.SOCK_STREAM)
        except Exception:  # no such loopback; "dual" comes last, and has two
            continue
        with closing(sock):
            yield sock
        return
    yield None


def _connects(sock: _socket.socket) -> int:
    """Return what the kernel says of a connection to an address: over loopback, at once."""
    with closing(_socket.socket(sock.family, sock.type)) as client:
        client.settimeout(1.0)
        return client.connect_ex(sock.getsockname())


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
