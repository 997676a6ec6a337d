"""A second socket at the address of a listening one, which can then stop and lose nothing.

None of it closes the first socket: the caller's `leave` does, at the moment when that is right.
"""

from __future__ import annotations

import _socket
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import closing

from pytest_sockets._engine.binding import bind_unix, new_socket

Leave = Callable[[], None]
"""Takes who is queued at the first socket, and closes it."""
Rebind = Callable[[_socket.socket, Leave], _socket.socket]
"""Returns the socket that follows a listening one: bound to its address, and not listening."""


def rebind_inet(sock: _socket.socket, leave: Leave) -> _socket.socket:
    """Bind to the same address and port while the first socket still holds them.

    A listener whose port the kernel chose loses it by shutdown(2), and no socket may be bound to
    the port of one that listens, unless both have SO_REUSEPORT (socket(7)). The kernel remembers
    that option for the port, beyond the sockets that had it, until somebody binds there without
    it: a third socket does (measured: else another program of the same user could listen there).
    """
    address = sock.getsockname()
    with closing(_like(sock)) as bridge:
        fresh = _like(sock)
        try:
            for each in (sock, bridge):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bridge.bind(address)
            leave()
            fresh.bind(address)
            # Else everybody who has the option too could bind there until we listen again.
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except BaseException:
            fresh.close()
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            raise
    return fresh


def _like(sock: _socket.socket) -> _socket.socket:
    fresh = new_socket(sock.family, sock.type, sock.proto)
    for level, option in (
        (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    ):
        if level == socket.IPPROTO_TCP or sock.family == socket.AF_INET6:
            fresh.setsockopt(level, option, sock.getsockopt(level, option))
    # For the connections that the first one has accepted: they are on the same port.
    fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return fresh


def rebind_path(path: str, sock: _socket.socket, leave: Leave) -> _socket.socket:
    """Bind beside a path and move the new socket file over it, which rename(2) does at once.

    Args:
        path: an absolute one; the folder is opened, so that it may be longer than AF_UNIX takes.
        sock: the listening socket.
        leave: closes it.
    """
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        beside = f".ps-{secrets.token_hex(8)}"
        fresh = bind_unix(f"/proc/self/fd/{descriptor}/{beside}", sock.type, sock.proto)
        try:
            os.rename(beside, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        except BaseException:
            fresh.close()
            os.unlink(beside, dir_fd=descriptor)
            raise
    finally:
        os.close(descriptor)
    leave()
    return fresh


def rebind_abstract(name: str, sock: _socket.socket, leave: Leave) -> _socket.socket:
    """Bind to an abstract name as soon as it is free.

    It is free for a moment: an abstract name cannot be moved, no two sockets can have it, and one
    that has been shut down never listens again (unix(7)).
    """
    kind, proto = sock.type, sock.proto
    leave()
    return bind_unix(name, kind, proto)
