"""Endpoints that accept: TCP and AF_UNIX stream servers."""

from __future__ import annotations

import _socket
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from pytest_sockets._endpoints.behaviours import Behaviour
from pytest_sockets._endpoints.claims import Direction, hold
from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._endpoints.fault import Fault
from pytest_sockets._endpoints.faulty import Faulty
from pytest_sockets._endpoints.handlers import Handler
from pytest_sockets._endpoints.place import Place, place_for
from pytest_sockets._endpoints.placed import Placed
from pytest_sockets._endpoints.planned import Planned
from pytest_sockets._endpoints.plans import Plans
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.binding import plain
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.listener import Listener
from pytest_sockets._engine.parties import Driver
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.framing import Framing, count_of, framing_of
from pytest_sockets._wire.matching import MISSING, claim
from pytest_sockets._wire.rendering import count, show
from pytest_sockets.faults import StopReading

H = TypeVar("H", bound=Handler)


class StreamServer(Placed, Planned, Faulty):
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
    _accepts = True
    _behaviour: ClassVar[Behaviour | None] = None

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
        self._connections: list[Connection] = []
        self._streams: list[Stream] = []
        self._taken = 0
        self._plans: Plans | None = None
        self._arrived = Signal()  # level: connections
        self._carrying = {"received": Signal(), "sent": Signal()}  # level: connections with bytes
        self._ended = Signal()  # level: connections whose our side has ended
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

        Waits for one where all have been taken.
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
    def connections(self) -> tuple[Connection, ...]:
        """All connections so far, taken or not; each stays readable after its end."""
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return tuple(self._connections)

    @verb
    def wait_connections(self, n: int, *, timeout: float | None = None) -> Steps[None]:
        """Wait until at least `n` connections have arrived since the start."""
        yield from self._wait_count(
            "connection", self._arrived, lambda: len(self._connections), n, timeout
        )

    @verb
    def wait_closed(self, n: int, *, timeout: float | None = None) -> Steps[None]:
        """Wait until our side of at least `n` connections has ended: FIN is out, or reset."""
        yield from self._wait_count(
            "closed connection",
            self._ended,
            lambda: sum(conn.is_closed for conn in self._connections),
            n,
            timeout,
        )

    @verb
    def assert_connections(self, n: int, *, timeout: float | None = None) -> Steps[None]:
        """Require exactly `n` connections since the start, waiting while more may come."""
        wanted = count_of(n, name="n")
        deadline = self._deadline(timeout)
        yield from self._settle()
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                have = len(self._connections)
                over = self._closed
            if have == wanted:
                return
            if have > wanted or over:
                msg = f"{self.name} has {count(have, 'connection')}, expected {wanted}"
                raise MismatchError(msg)
            if late:
                msg = (
                    f"{self.name}: waited {deadline} for {count(wanted, 'connection')}, {have} came"
                )
                raise WaitTimeout(msg)
            late = yield from self._waited(deadline, (self._arrived, have + 1))

    # -- the record

    @property
    def received(self) -> bytes:
        """All bytes received so far, connections in order of accept."""
        __tracebackhide__ = True
        return self._joined("received")

    @property
    def sent(self) -> bytes:
        """All bytes sent so far, connections in order of accept."""
        __tracebackhide__ = True
        return self._joined("sent")

    @verb
    def assert_received(
        self, expected: Any = MISSING, *, contains: Any = MISSING, timeout: float | None = None
    ) -> Steps[None]:
        """Require what the one connection that carried bytes has received; see `Connection`.

        Two connections with bytes fail, as there is no one stream to compare: use
        ``connections[i].assert_received``.
        """
        yield from self._hold(expected, contains, "received", timeout)

    @verb
    def assert_sent(
        self, expected: Any = MISSING, *, contains: Any = MISSING, timeout: float | None = None
    ) -> Steps[None]:
        """Require what was sent on the one connection that carried bytes; see `Connection`."""
        yield from self._hold(expected, contains, "sent", timeout)

    @verb
    def assert_nothing_received(self) -> Steps[None]:
        """Require that no byte has been sent to any connection before this call; does not wait."""
        yield from self._settle()
        self._raise_problem()
        with self._lock:
            talkers = self._carriers("received")
            first = talkers[0]._bytes("received").read() if talkers else b""
        if talkers:
            where = count(len(talkers), "connection")
            msg = (
                f"{self.name} received bytes on {where}, expected none\n"
                f"  #{talkers[0].index} received {show(first)}"
            )
            raise MismatchError(msg)

    @property
    def aio(self) -> AsyncServerFace:
        """The same verbs, awaitable, for asyncio and trio."""
        return AsyncServerFace(self)

    # -- inside: what streams and listeners call, with the lock held

    def _on_first(self, stream: Stream, *, sent: bool) -> None:
        """Count the connections that carried bytes."""
        signal = self._carrying["sent" if sent else "received"]
        signal.advance(signal.level + 1)

    def _on_end(self, stream: Stream) -> None:
        """Count the connections whose our side has ended."""
        self._ended.advance(self._ended.level + 1)

    def _give_up(self) -> None:
        for stream in self._streams:
            stream.reset()

    def _on_accept(self, sock: _socket.socket, address: Any) -> None:
        peer = plain(sock.family, address)
        index = len(self._connections)
        record = self._new_record(index)
        record.mark(CLOCK.stamp(), "accepted", peer=peer)
        stream = Stream(self, self._engine, sock, record, peer, self.settings.timeout)
        conn = Connection(self, stream, index)
        self._streams.append(stream)
        self._connections.append(conn)
        self._arrived.advance(index + 1)
        if self._problems:
            stream.reset()
            return
        self._meet(stream, index)
        if not stream.can_send:  # a fault has ended it: a plan is for one that can be talked to
            stream.start()
            return
        if self._plans is None or not self._plans.drive(conn):
            driver = stream.driver = self._driver_of(stream)
            if driver is not None:
                conn._driven_by = Driven(driver.title)
        stream.start()
        if stream.driver is not None:
            stream.driver.on_open(stream)

    def _faulty_streams(self) -> Sequence[Stream]:
        return self._streams

    def _begin(self, fault: Fault) -> None:
        super()._begin(fault)
        self._suit_faults()

    def _lift(self, fault: Fault) -> None:
        super()._lift(fault)
        self._suit_faults()

    def _suit_faults(self) -> None:
        """Listen as the active faults need it."""
        effects = [fault.effect for fault in self._faults if not fault._is_lifted]
        for listener in self._listeners:
            listener.limit_segments(StopReading() in effects)

    def _driver_of(self, stream: Stream) -> Driver | None:
        """Return what answers on a new connection; `None` where the test does."""
        return self._behaviour

    # -- inside

    def _carriers(self, direction: Direction) -> list[Connection]:
        # Looking at 10,000 silent connections for each assertion would be slow; none is common.
        if not self._carrying[direction].level:
            return []
        return [conn for conn in self._connections if conn._bytes(direction).size]

    def _hold(
        self, expected: Any, contains: Any, direction: Direction, timeout: float | None
    ) -> Steps[None]:
        deadline = self._deadline(timeout)
        wanted = claim(expected, contains)
        carrying = self._carrying[direction]
        yield from hold(
            self,
            wanted,
            direction,
            deadline,
            lambda: self._carriers(direction),
            carrying,
            self.name,
        )

    def _joined(self, direction: Direction) -> bytes:
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return b"".join(conn._bytes(direction).read() for conn in self._connections)

    def _wait_count(
        self, what: str, signal: Signal, have: Callable[[], int], n: int, timeout: float | None
    ) -> Steps[None]:
        wanted = count_of(n, name="n")
        deadline = self._deadline(timeout)
        late = False
        while True:
            with self._lock:
                self._raise_problem()
                if have() >= wanted:
                    return
                if self._closed:
                    self._raise_closed()
            if late:
                msg = f"{self.name}: waited {deadline} for {count(wanted, what)}, {have()} so far"
                raise WaitTimeout(msg)
            late = yield from self._waited(deadline, (signal, wanted))

    def _signals(self) -> tuple[Signal, ...]:
        signals = [self._arrived, self._ended, *self._carrying.values()]
        for stream in self._streams:
            signals += (stream.received, stream.sent, stream.peer_end, stream.ended)
        return tuple(signals)

    def _stop(self) -> None:
        try:
            for listener in self._listeners:
                listener.stop()
        finally:
            for stream in self._streams:
                stream.abort()
            self._place_.remove()
            self._listeners.clear()  # a cycle less: who had no connection is freed at once

    def _abandon(self) -> None:
        for listener in self._listeners:
            listener.abandon()
        for stream in self._streams:
            stream.abandon()

    def _place(self) -> str:
        return self._place_.text

    def _summary(self) -> str:
        ends = [conn._why_over("received") for conn in self._connections]
        text = count(len(ends), "connection")
        if len(ends) == 1:
            kinds = self._streams[0].record.kinds
            how = {
                "peer_reset": "reset by peer",
                "reset_sent": "reset",
                "peer_eof": "EOF from peer",
            }
            text += "".join(f", {how[kind]}" for kind in kinds if kind in how)
        return text


class AsyncServerFace(Face):
    """The awaitable verbs of a server: `server.aio`."""

    accept = Twin(StreamServer.accept)
    wait_connections = Twin(StreamServer.wait_connections)
    wait_closed = Twin(StreamServer.wait_closed)
    assert_connections = Twin(StreamServer.assert_connections)
    assert_received = Twin(StreamServer.assert_received)
    assert_sent = Twin(StreamServer.assert_sent)
    assert_nothing_received = Twin(StreamServer.assert_nothing_received)
