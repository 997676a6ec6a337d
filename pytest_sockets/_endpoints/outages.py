"""A server that refuses for a while, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.place import Place
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.listener import Listener
from pytest_sockets._wire.errors import UnsupportedError
from pytest_sockets._wire.events import Kind
from pytest_sockets._wire.record import Record

if TYPE_CHECKING:
    from pytest_sockets._endpoints.connection import Connection


DOWN = "down()"


class Outages(Endpoint):
    """The part of a server that goes down and up; its transcript has a note of either."""

    _place_: Place
    _listeners: list[Listener]
    _connections: list[Connection]
    _refusals: frozenset[str] = frozenset()
    """Why it refuses at present; empty while it listens."""
    _log: Record | None = None

    def down(self, *, reset: bool = False) -> None:
        """Refuse connections from now on, at an address that stays ours. Does not block.

        A client that had connected before is still accepted and served; who connects at this very
        moment is either served or gets ECONNREFUSED or ECONNRESET. Scripts, handlers and rules stay
        for the time after `up`. Idempotent: a server that is down stays down. A problem of the
        server is raised instead.

        Args:
            reset: whether to end all open connections too, with RST. A script or handler ends with
                its connection, and what it had left to do is no problem.

        Raises:
            EndpointClosedError: the server is closed.
            UnsupportedError: it is neither a TCP nor an AF_UNIX server.
            OSError: there is no descriptor left, or an AF_UNIX path was removed or replaced.
        """
        __tracebackhide__ = True
        with self._lock:
            self._require_open()
            if not self.is_down:
                self._refuse(DOWN, on=True)
                self._tell("note", "down: refuses connections")
            if reset:
                for conn in self._connections:
                    conn._stream.break_off("down(reset=True)")

    def up(self) -> None:
        """Serve again, at the same address: when this returns, `connect` works. Does not block.

        Idempotent: nothing happens to a server that is not down. A problem of the server is raised
        instead. At an AF_UNIX path, what the kernel tells clients of the server's name from then on
        (`getpeername`) is another name of the same socket.

        Raises:
            EndpointClosedError: the server is closed.
        """
        __tracebackhide__ = True
        with self._lock:
            self._require_open()
            if self.is_down:
                self._refuse(DOWN, on=False)
                still = f"still refuses connections, by {', '.join(self._refusals)}"
                self._tell("note", f"up: {still if self._refusals else 'accepts connections'}")

    @property
    def is_down(self) -> bool:
        """Whether it refuses, after `down()` and before `up()`. Does not block."""
        return DOWN in self._refusals

    # -- inside, with the lock held

    def _require_open(self) -> None:
        self._raise_problem()
        if self._closed:
            self._raise_closed()

    def _refuse(self, why: str, *, on: bool) -> None:
        """Have a reason to refuse, or no longer have it."""
        refusals = self._refusals | {why} if on else self._refusals - {why}
        if refusals and not self._refusals:
            self._stop_listening()
        elif self._refusals and not refusals:
            for listener in self._listeners:
                listener.start()
        self._refusals = refusals

    def _stop_listening(self) -> None:
        rebind = self._place_.rebind
        if rebind is None:
            where = f"{self.name} at {self._place()}"
            msg = f"{where} cannot refuse connections: TCP and AF_UNIX servers can"
            raise UnsupportedError(msg)
        try:
            for listener in self._listeners:
                listener.down(rebind)
        except BaseException:
            for listener in self._listeners:  # all or none
                listener.start()
            raise

    def _tell(self, kind: Kind, note: str) -> None:
        if self._log is None:
            self._log = self._new_record(None)
        self._log.mark(CLOCK.stamp(), kind, note=note)
