"""A listening socket that answers nobody, as one behind a firewall does."""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
import struct

from pytest_sockets._engine.binding import new_socket
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._wire.errors import UnsupportedError

BACKLOG = 1
"""With 0 some kernels take the first client for a SYN flood: they log it, or drop it."""
FILLERS = 16
"""Connections tried at most: a queue of `BACKLOG` is full with one more than that (listen(2))."""
PATIENCE = 30.0
"""Seconds for the kernel to answer or drop a SYN; on loopback that is done before connect(2)
returns, unless another thread of the kernel's has taken it over."""
SO_MEMINFO = 55
"""An option that `socket` does not name (asm-generic/socket.h)."""
DROPS = struct.Struct("=32xI")
"""The SK_MEMINFO_DROPS in its answer: on a listening socket, the SYNs that were dropped."""


def fill_queue(listener: _socket.socket) -> list[_socket.socket]:
    """Listen, and let nobody in: return the connections that have to stay open for that.

    A SYN that finds the queue of a listening socket full is dropped without an answer (listen(2)).
    The last connection tried here proves it: the kernel has counted its SYN as dropped. A socket
    filter that drops them, SO_ATTACH_FILTER, needs privileges on newer kernels.

    Raises:
        UnsupportedError: this kernel lets everybody in, or does not tell.
    """
    listener.listen(BACKLOG)
    fillers: list[_socket.socket] = []
    try:
        while len(fillers) < FILLERS:
            client = new_socket(listener.family, socket.SOCK_STREAM)
            fillers.append(client)
            if _hangs(client, listener):
                fillers.pop().close()
                return fillers
    except BaseException:
        _close(fillers)
        raise
    _close(fillers)
    msg = "this kernel has no blackhole: a listening socket with a full queue still lets clients in"
    raise UnsupportedError(msg)


def _hangs(client: _socket.socket, listener: _socket.socket) -> bool:
    """Whether a connection to a listening socket is neither made nor refused, but dropped."""
    before = _dropped(listener)
    code = client.connect_ex(listener.getsockname())
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, os.strerror(code))
    answered = select.poll()
    answered.register(client.fileno(), select.POLLOUT)
    deadline = Deadline(PATIENCE)
    # The kernel sends no event when it drops something: between two looks an answer is waited for.
    while _dropped(listener) == before:
        if answered.poll(1):
            if code := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            return False
        if not deadline.remaining():
            msg = f"this kernel has no blackhole: it does not say within {deadline} what it did"
            raise UnsupportedError(msg)
    return True


def _dropped(listener: _socket.socket) -> int:
    try:
        answer = listener.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, DROPS.size)
        return int(DROPS.unpack(answer)[0])
    except (OSError, struct.error) as error:
        msg = f"this kernel does not tell what it drops (SO_MEMINFO): {error}"
        raise UnsupportedError(msg) from error


def _close(sockets: list[_socket.socket]) -> None:
    for sock in sockets:
        sock.close()
