"""Opening a connection without blocking: one address after the other, until one answers."""

from __future__ import annotations

import _socket
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from pytest_sockets._engine.binding import LOOPBACK, new_socket, plain, take_urgent
from pytest_sockets._engine.clock import Deadline, Pauses
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.listener import ACCEPTING, limit
from pytest_sockets._engine.selector import ONCE, WRITE
from pytest_sockets._engine.waiting import Signal, Steps, Wait
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import show_address

AF_UNIX = getattr(socket, "AF_UNIX", None)


class Connector:
    """Opens one connection.

    Args:
        candidates: a family and an address in the kernel's form each, tried in order.
        limited: whether the peer is to block soon when nobody reads what it sends.
    """

    turns = 1

    def __init__(self, candidates: Sequence[tuple[int, Any]], *, limited: bool = False) -> None:
        self.done = Signal()  # finished when the socket has connected, or failed to
        self._candidates = candidates
        self._is_limited = limited
        self._socket: _socket.socket | None = None
        self._error = 0

    def connect(self, deadline: Deadline) -> Steps[tuple[_socket.socket, Address | None]]:
        """Return a connected socket, and who is at its other end.

        Raises:
            OSError: none could be reached; it is the last one's error.
            TimeoutError: the deadline passed.
        """
        refusal: Exception | None = None
        for family, target in self._candidates:
            try:
                # As for accept(2): a child forked in between could not close it.
                with ACCEPTING:
                    sock = self._socket = new_socket(family, socket.SOCK_STREAM)
            except UnsupportedError as error:
                refusal = error
                continue
            try:
                take_urgent(sock)
                if self._is_limited:
                    limit(sock)
                yield from self._reach(sock, family, target, deadline)
            except TimeoutError:
                sock.close()
                raise
            except OSError as error:  # a name's next address may answer
                sock.close()
                refusal = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock, _peer(sock, family, target)
        assert refusal is not None, "there is always a candidate"
        raise refusal

    def abandon(self) -> None:
        """Close our number in a forked child, without a word to the parent's epoll."""
        if self._socket is not None:
            self._socket.close()

    # -- the I/O thread

    def on_ready(self, events: int) -> None:
        """See whether it has connected."""
        # The event may be that of another socket, which had this number when it was polled.
        assert self._socket is not None, "it is watched only while it connects"
        self._error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._error or _is_connected(self._socket):
            self.done.finish()

    def on_failure(self, error: Exception) -> None:
        """Look again in the caller's thread."""
        self.done.finish()

    # -- inside

    def _reach(
        self, sock: _socket.socket, family: int, target: Any, deadline: Deadline
    ) -> Steps[None]:
        code, pauses = sock.connect_ex(target), Pauses()
        # AF_UNIX does not let a non-blocking socket queue for the queue (connect(2)), and tells
        # nobody when there is room.
        while code == errno.EAGAIN and family == AF_UNIX and deadline.remaining():
            yield Wait(Deadline(min(pauses.next(), deadline.remaining())))
            code = sock.connect_ex(target)
        if code == errno.EINPROGRESS:
            self.done, self._error = Signal(), 0
            selector = Engine.current().selector
            selector.add(sock.fileno(), self, WRITE | ONCE)
            try:
                woken = yield Wait(deadline, (self.done, 1))
            finally:
                selector.remove(sock.fileno())
            code = self._error or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not woken and not code and not _is_connected(sock):
                msg = f"connecting to {show_address(plain(family, target))} took {deadline}"
                raise TimeoutError(errno.ETIMEDOUT, msg)
        if not code and family in LOOPBACK and sock.getsockname() == target:
            # The kernel chose the very port that was asked for, and TCP connects a socket to itself
            # (RFC 9293, 3.5: simultaneous open): nobody listens there.
            code = errno.ECONNREFUSED
        if code:
            where = show_address(plain(family, target))
            full = "; its queue of connections is full" if code == errno.EAGAIN else ""
            raise OSError(code, f"{os.strerror(code)}: {where}{full}")
        if family in LOOPBACK:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _peer(sock: _socket.socket, family: int, target: Any) -> Address | None:
    try:
        return plain(family, sock.getpeername())
    except OSError:  # it has reset the connection already
        return plain(family, target)


def _is_connected(sock: _socket.socket) -> bool:
    # Asked at the deadline: a busy machine must not make a late answer of one that is there.
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
