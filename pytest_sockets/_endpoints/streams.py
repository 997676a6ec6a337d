"""Endpoints with several connections: their record, and what can be required of it."""

from __future__ import annotations

import _socket
import bisect
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Literal

from pytest_sockets._endpoints.claims import Direction, hold
from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.endpoint import Settings
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._endpoints.faulty import Faulty
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.framing import count_of
from pytest_sockets._wire.matching import MISSING, claim
from pytest_sockets._wire.rendering import count, show_log


class StreamEndpoint(Faulty):
    """An endpoint with any number of connections, and the record of all of them.

    Every waiting verb takes `timeout=` in seconds (`None`: the default of `settings`; 0: only what
    has arrived already) and has an awaitable twin under `aio`. It raises `WaitTimeout` where the
    deadline passed, `MismatchError` where a claim can no longer become true, `EndpointClosedError`
    after `close()`, and a problem of the endpoint as soon as there is one. Properties that show the
    record bring it up to date first.
    """

    _accepts = True

    def __init__(self, *, name: str | None, settings: Settings | None) -> None:
        super().__init__(name=name, settings=settings)
        self._connections: list[Connection] = []
        self._streams: list[Stream] = []
        self._arrived = Signal()  # level: connections
        self._carrying = {"received": Signal(), "sent": Signal()}  # level: connections with bytes
        self._ended = Signal()  # level: connections whose our side has ended

    # -- connections

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections so far, in order; each stays readable after its end."""
        __tracebackhide__ = True
        self._sync()
        with self._lock:
            return tuple(self._connections)

    @verb
    def wait_connections(self, n: int, *, timeout: float | None = None) -> Steps[None]:
        """Wait until there have been at least `n` connections since the start."""
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
        """All bytes received so far, one connection after the other."""
        __tracebackhide__ = True
        return self._joined("received")

    @property
    def sent(self) -> bytes:
        """All bytes sent so far, one connection after the other."""
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
            first = show_log(talkers[0]._bytes("received")) if talkers else ""
        if talkers:
            where = count(len(talkers), "connection")
            msg = (
                f"{self.name} received bytes on {where}, expected none\n"
                f"  #{talkers[0].index} received {first}"
            )
            raise MismatchError(msg)

    @property
    def aio(self) -> AsyncStreamFace:
        """The same verbs, awaitable, for asyncio and trio."""
        return AsyncStreamFace(self)

    # -- inside: what streams call, with the lock held

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

    def _faulty_streams(self) -> Sequence[tuple[int, Stream]]:
        return [(conn.index, conn._stream) for conn in self._connections]

    def _admit(
        self,
        sock: _socket.socket,
        peer: Address | None,
        index: int,
        how: Literal["accepted", "connected"],
    ) -> Connection:
        """Take in a connected socket, which is not read from yet. With the lock held."""
        record = self._new_record(index)
        record.mark(CLOCK.stamp(), how, peer=peer)
        stream = Stream(self, self._engine, sock, record, peer, self._deadline(None).timeout)
        conn = Connection(self, stream, index)
        # Those that are opened may be there in another order than the one they were begun in.
        at = bisect.bisect(self._connections, index, key=attrgetter("index"))
        self._connections.insert(at, conn)
        self._streams.insert(at, stream)
        self._arrived.advance(len(self._connections))
        return conn

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
        for stream in self._streams:
            stream.abort()

    def _abandon(self) -> None:
        for stream in self._streams:
            stream.abandon()

    def _summary(self) -> str:
        text = count(len(self._connections), "connection")
        if len(self._connections) == 1:
            kinds = self._streams[0].record.kinds
            how = {
                "peer_reset": "reset by peer",
                "reset_sent": "reset",
                "peer_eof": "EOF from peer",
            }
            text += "".join(f", {how[kind]}" for kind in kinds if kind in how)
        return text


class AsyncStreamFace(Face):
    """The awaitable verbs of an endpoint with several connections: `endpoint.aio`."""

    wait_connections = Twin(StreamEndpoint.wait_connections)
    wait_closed = Twin(StreamEndpoint.wait_closed)
    assert_connections = Twin(StreamEndpoint.assert_connections)
    assert_received = Twin(StreamEndpoint.assert_received)
    assert_sent = Twin(StreamEndpoint.assert_sent)
    assert_nothing_received = Twin(StreamEndpoint.assert_nothing_received)
