"""A listening socket, started, interrupted and stopped in its caller's thread."""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from pytest_sockets._engine.binding import BACKLOG, accept_from, refuse, take_urgent
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.parties import Owner
from pytest_sockets._engine.peer import is_tcp
from pytest_sockets._engine.rebinding import Rebind

QUEUE = 4097
"""Connections that a full queue holds by default: somaxconn and one more (listen(2))."""
SMALL_SEGMENT, SMALL_BUFFER = 256, 4096
"""Bytes of a segment, and of a receive buffer, for clients that are to block soon. A buffer of few
segments would have them wait for the kernel's timers before anything has stopped reading."""
TURN = 64
"""Connections accepted before other sockets are served: clients can be as fast as accept(2)."""
ACCEPTING = threading.RLock()
"""Held from accept(2) until the listener knows the socket. A child forked in between would have a
descriptor that nobody in it can close, and keep the parent's reset from going out."""
GONE_BEFORE_ACCEPT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EINTR})


def limit(sock: _socket.socket, room: int = SMALL_BUFFER, segment: int = SMALL_SEGMENT) -> None:
    """Have the peers that it will be connected with block soon when nobody reads here.

    Linux measures a sender's buffer in segments, with as much again beside each: of those that are
    on the way, or 10, or as many as it remembers to have come out of order, up to 300 (tcp(7):
    tcp_max_reordering). Of loopback's 64 KB they make 4 MB. Small ones and a small receive buffer,
    which lets few be on the way, make it 510 KB (measured).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    if is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)


class Listener:
    """A bound socket that accepts from `start` until it is stopped, and not while it is down.

    Accepting, handing over, going down and stopping all happen under the endpoint's lock. Without
    it, 1,164 of 100,000 stops still handed a connection over afterwards.
    """

    turns = QUEUE // TURN + 1  # all who wait

    def __init__(
        self,
        owner: Owner,
        engine: Engine,
        sock: _socket.socket,
        on_accept: Callable[[_socket.socket, Any], None],
    ) -> None:
        self._owner = owner
        self._engine = engine
        self._socket: _socket.socket | None = sock
        self._on_accept = on_accept
        self._room: int | None = None  # for unread bytes, while it is limited
        self._arriving: _socket.socket | None = None  # accepted, not yet handed over
        self._is_down = True
        self._was_down = False

    def start(self) -> None:
        """Listen: when this returns, `connect` works. Also again, after `down`."""
        sock = self._socket
        if sock is None or not self._is_down:
            return
        if self._was_down:  # for the connections that it has: they are on this port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        take_urgent(sock)
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            refuse(error, "listening socket of this type")
            raise
        # Inherited by what it accepts, so that their TIME_WAIT does not keep the port from the next
        # server. Not before it listens: till then a bind(0) with that option could get this port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._queue = select.poll()
        self._queue.register(sock.fileno(), select.POLLIN)
        self._is_down = False
        self._engine.selector.add(sock.fileno(), self)

    def limit_unread(self, is_limited: bool) -> None:
        """Have further clients block soon when nobody reads what they send, or no longer."""
        sock = self._socket
        if sock is None or is_limited == (self._room is not None):
            return
        if self._room is None:
            self._room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            limit(sock)
        else:
            limit(sock, self._room, 0)  # 0: the kernel's choice
            self._room = None

    def down(self, rebind: Rebind) -> None:
        """Take who is queued already, and refuse all others at the same address.

        The socket is replaced by one that has never listened.
        """
        with self._owner._lock, ACCEPTING:  # a child must not have the new one either
            sock = self._socket
            if sock is None or self._is_down:
                return
            try:
                self._socket = rebind(sock, self.stop)
            except Exception as error:
                if sock.fileno() < 0:  # the address is lost: it cannot come back
                    self._owner._fail(error)
                raise
            self._is_down = self._was_down = True
            if self._room is not None:  # the new socket does not have it from the old one
                self._room = None
                self.limit_unread(True)

    def on_ready(self, events: int) -> None:
        """Accept who waits."""
        with self._owner._lock:
            self._accept_queued(TURN)

    def on_failure(self, error: Exception) -> None:
        """Stop on an error of our own, such as too many open files, and make it a problem.

        A listener that cannot accept stays readable: going on would spin.
        """
        self._owner._fail(error)
        with self._owner._lock:
            self._drop_arriving()
            self._release()

    def stop(self) -> None:
        """Take who is queued already, and close."""
        with self._owner._lock:
            try:
                self._accept_queued(QUEUE)
            except Exception as error:  # too many open files: the end has to go on all the same
                self._owner._fail(error)
                self._drop_arriving()
            finally:
                self._release()

    def discard(self) -> None:
        """Close, whoever is queued."""
        with self._owner._lock:
            self._release()

    def abandon(self) -> None:
        """Close our number in a forked child, without a word to the parent's epoll."""
        for sock in (self._socket, self._arriving):
            if sock is not None:
                sock.close()
        self._socket = None

    def _accept_queued(self, most: int) -> None:
        for _ in range(most):
            # Asking first: accept(2) makes a socket before it sees that nobody waits (6 µs).
            if self._socket is None or self._is_down or not self._queue.poll(0):
                return
            try:
                with ACCEPTING:
                    sock, address = accept_from(self._socket)
                    self._arriving = sock
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in GONE_BEFORE_ACCEPT:
                    continue
                raise
            sock.setblocking(False)
            self._on_accept(sock, address)
            self._arriving = None

    def _drop_arriving(self) -> None:
        """Close what was accepted and could not be handed over: its client shall not wait."""
        sock, self._arriving = self._arriving, None
        if sock is not None:
            sock.close()

    def _release(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._engine.selector.remove(sock.fileno())
            sock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=ACCEPTING.acquire,
        after_in_parent=ACCEPTING.release,
        after_in_child=ACCEPTING.release,
    )
