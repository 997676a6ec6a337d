"""Endpoints that accept: TCP and AF_UNIX stream servers."""

from __future__ import annotations

import _socket
import os
import socket
from typing import Any

from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faces import Twin, verb
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.outages import Outages
from pytest_sockets._endpoints.place import Place, place_for
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._endpoints.planned import Planned
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._endpoints.streams import AsyncStreamFace, StreamEndpoint
from pytest_sockets._engine.binding import plain
from pytest_sockets._engine.listener import Listener
from pytest_sockets._engine.parties import Driver
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import WaitTimeout
from pytest_sockets._wire.framing import Framing, framing_of
from pytest_sockets._wire.rendering import count
from pytest_sockets.faults import Refuse, StopReading


class StreamServer(Placed, Planned, Outages, StreamEndpoint):
    r"""A listener of any family, already listening when it is made, and its connections.

    Args:
        family: ``"ipv4"`` (the default), ``"ipv6"``, ``"dual"`` (both loopbacks on one port) or
            ``"unix"``; or, with `type` and `address`, any `socket.AF_…` number.
        host: an address or name of this machine; `None` means loopback.
        port: a number, a numeric string or a service name; 0 means any free one.
        path: an AF_UNIX path, or ``"\0name"`` for an abstract name; `None` means a short path
            that is removed again.
        abstract: choose an abstract AF_UNIX name (Linux).
        type: a `socket.SOCK_…` number other than SOCK_STREAM, such as SOCK_SEQPACKET.
        proto: a protocol number such as IPPROTO_MPTCP; 0 means the family's default.
        address: where to bind, in the form of a family that has no host and port.
        framing: where the frames end that `on` answers: a separator (``b"\r\n"``), a length in a
            `struct` format (``">H"``, which counts the bytes behind it), or a function that gets
            the bytes that came and returns the length of the first whole frame, `None` while it is
            not complete. `None`: TCP's own, which is none; then only bytes can be answered.
        name: what messages and reports call it.
        settings: timeouts and limits.

    Every waiting verb takes `timeout=` in seconds (`None`: the default of `settings`; 0: only what
    has arrived already) and has an awaitable twin under `aio`. It raises `WaitTimeout` where the
    deadline passed, `MismatchError` where a claim can no longer become true, `EndpointClosedError`
    after `close()`, and a problem of the server as soon as there is one. Properties that show the
    record bring it up to date first.

    Raises:
        OSError: it cannot be bound; the message says why, and who holds a taken port.
        UnsupportedError: this machine has no such family or type.
        ValueError: an argument is wrong in itself.
    """

    kind = "stream_server"
    _listens = True

    def __init__(
        self,
        *,
        family: str | int | None = None,
        host: str | None = None,
        port: int | str = 0,
        path: str | os.PathLike[str] | None = None,
        abstract: bool = False,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        address: Any = None,
        framing: Framing | None = None,
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(name=name, settings=settings)
        self._framing = None if framing is None else framing_of(framing)
        self._place_: Place = place_for(
            family, host, port, path, type, proto, address, abstract=abstract
        )
        self._taken = 0
        self._listeners = [
            Listener(self, self._engine, sock, self._on_accept) for sock in self._place_.sockets
        ]
        try:
            for listener in self._listeners:
                listener.start()
        except BaseException:
            for listener in self._listeners:
                listener.discard()
            self._place_.remove()
            raise
        self._opened()

    # -- connections

    @verb
    def accept(self, *, timeout: float | None = None) -> Steps[Connection]:
        """Return the next connection that was not yet taken, in order of arrival.

        Waits for one where all have been taken. ``with server.accept() as conn:`` closes it at the
        end of the block, also where something in it fails, so that its client does not wait on.
        """
        deadline = self._deadline(timeout)
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                if self._taken < len(self._connections):
                    self._taken += 1
                    return self._connections[self._taken - 1]
                if self._closed:
                    self._raise_closed()
                have = len(self._connections)
            if late:
                msg = (
                    f"{self.name}: nobody connected to {self._place()} within {deadline} "
                    f"({count(have, 'connection')} before)"
                )
                raise WaitTimeout(msg)
            late = yield from self._waited(deadline, (self._arrived, have + 1))

    @property
    def aio(self) -> AsyncServerFace:
        """The same verbs, awaitable, for asyncio and trio."""
        return AsyncServerFace(self)

    # -- inside: what streams and listeners call, with the lock held

    def _on_accept(self, sock: _socket.socket, address: Any) -> None:
        peer = plain(sock.family, address)
        conn = self._admit(sock, peer, len(self._connections), "accepted")
        stream = conn._stream
        if self._problems:
            stream.reset()
            return
        self._drive(conn)
        stream.start()
        if stream.driver is not None:
            stream.driver.on_open(stream)

    def _drive(self, conn: Connection) -> None:
        """Have faults, and then a plan or the behaviour, act on a new connection."""
        self._meet(conn._stream, conn.index)
        if not conn._stream.can_send:  # it has been ended: a plan is for one that can be talked to
            return
        if self._plans is None or not self._plans.drive(conn):
            driver = conn._stream.driver = self._driver_of(conn._stream)
            if driver is not None:
                conn._driven_by = Driven(driver.title)

    def _begin(self, fault: Fault) -> None:
        super()._begin(fault)
        self._suit_faults()

    def _lift(self, fault: Fault) -> None:
        super()._lift(fault)
        self._suit_faults()

    def _suit_faults(self) -> None:
        """Listen as the active faults need it."""
        for listener in self._listeners:
            listener.limit_unread(self._has_effect(StopReading()))
        is_refusing = self._has_effect(Refuse())
        if is_refusing != (str(Refuse()) in self._refusals):
            self._refuse(str(Refuse()), on=is_refusing)
            if is_refusing:
                self._tell("fault", f"{Refuse()!r}")
            else:
                self._tell("note", f"{Refuse()!r} lifted")

    def _driver_of(self, stream: Stream) -> Driver | None:
        """Return what answers on a new connection; `None` where the test does."""
        return self._behaviour

    # -- inside

    def _stop(self) -> None:
        try:
            for listener in self._listeners:
                listener.stop()
        finally:
            super()._stop()
            self._place_.remove()
            self._listeners.clear()  # a cycle less: who had no connection is freed at once

    def _abandon(self) -> None:
        for listener in self._listeners:
            listener.abandon()
        super()._abandon()

    def _place(self) -> str:
        return self._place_.text

    def _summary(self) -> str:
        text = super()._summary()
        how = ", down" if self.is_down else ", refusing" if self._refusals else ""
        return text + how


class AsyncServerFace(AsyncStreamFace):
    """The awaitable verbs of a server: `server.aio`."""

    accept = Twin(StreamServer.accept)
