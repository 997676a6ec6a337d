"""Endpoints that accept: TCP and AF_UNIX stream servers."""

from __future__ import annotations

import _socket
import os
import socket
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from pytest_sockets._endpoints.behaviours import Behaviour
from pytest_sockets._endpoints.claims import Direction, hold
from pytest_sockets._endpoints.connection import Connection
from pytest_sockets._endpoints.endpoint import Endpoint, Settings
from pytest_sockets._endpoints.faces import Face, Twin, verb
from pytest_sockets._endpoints.handlers import Handler
from pytest_sockets._endpoints.place import Place, place_for
from pytest_sockets._endpoints.plans import Plans
from pytest_sockets._endpoints.script import Script
from pytest_sockets._endpoints.stream_view import Driven
from pytest_sockets._engine.binding import plain
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.listener import Listener
from pytest_sockets._engine.parties import Driver
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.framing import count_of
from pytest_sockets._wire.matching import MISSING, claim
from pytest_sockets._wire.rendering import count, show

H = TypeVar("H", bound=Handler)


class StreamServer(Endpoint):
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
        name: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(name=name, settings=settings)
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

    # -- where

    @property
    def address(self) -> Any:
        """Where to connect: `(host, port)` for IPv4 and IPv6, a path for AF_UNIX."""
        return self._place_.address

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses it listens on: two for ``"dual"``, else one as a rule."""
        return self._place_.addresses

    @property
    def host(self) -> str:
        """The literal address, ``127.0.0.1`` or ``::1``, or the host that was asked for."""
        return self._place_.host(self.name)

    @property
    def port(self) -> int:
        """The port, held for as long as the server is open."""
        return self._place_.port(self.name)

    @property
    def path(self) -> str:
        """The AF_UNIX path; an abstract name begins with a NUL."""
        return self._place_.path(self.name)

    @property
    def family(self) -> str:
        """``"ipv4"``, ``"ipv6"``, ``"dual"``, ``"unix"``, or the kernel's name of another."""
        return self._place_.family

    def url(self, scheme: str) -> str:
        """Return ``scheme://host:port``, with brackets around an IPv6 address."""
        return self._place_.url(scheme, self.name)

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
            "connections", self._arrived, lambda: len(self._connections), n, timeout
        )

    @verb
    def wait_closed(self, n: int, *, timeout: float | None = None) -> Steps[None]:
        """Wait until our side of at least `n` connections has ended: FIN is out, or reset."""
        yield from self._wait_count(
            "closed connections",
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

    # -- plans

    def script(
        self, *, each: bool = False, strict: bool | None = None, timeout: float | None = None
    ) -> Script:
        """Plan one connection: the next one without a plan, or the oldest that nobody drives yet.

        Args:
            each: whether it is played on every further connection too, those without a script of
                their own.
            strict: whether bytes after its last step, and connections without a plan, are problems;
                `None` means the server's default, which is that they are.
            timeout: seconds for each step; `None` means the server's default.

        Returns:
            The script, without steps so far: ``server.script().expect(b"PING").send(b"PONG")``.
        """
        strict = self.settings.strict if strict is None else strict
        with self._lock:
            return self._planned().add_script(each=each, strict=strict, timeout=timeout)

    def serve(self, handler: H) -> H:
        """Have a function serve each connection that no script is made for, called once for each.

        A plain function runs in a thread of its own, with a `Connection` whose verbs block; an
        ``async def`` runs on the I/O loop, with an `AsyncConnection` whose verbs are awaited. It
        runs with the context variables of here. Returning closes the connection in order. An
        exception is a problem, `pytest.fail` and a failed assertion included, but for
        `PeerGoneError`, which is only noted in the transcript. At the end of the test its verbs
        raise `EndpointClosedError`.

        Returns:
            The handler, so that this can be a decorator.
        """
        with self._lock:
            self._planned().add_handler(handler)
        return handler

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

    def _add_problem(self, error: BaseException, note: str | None = None) -> None:
        """Make an error a problem, and end the connections: their clients fail now, not later."""
        super()._add_problem(error, note)
        with self._lock:
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
        has_plan = self._plans is not None and self._plans.drive(conn)
        driver = stream.driver = None if has_plan else self._driver_of(stream)
        if driver is not None:
            conn._driven_by = Driven(driver.title)
        stream.start()
        if driver is not None:
            driver.on_open(stream)

    def _driver_of(self, stream: Stream) -> Driver | None:
        """Return what answers on a new connection; `None` where the test does."""
        return self._behaviour

    # -- inside

    def _planned(self) -> Plans:
        if self._closed:
            self._raise_closed()
        if self._plans is None:
            self._plans = Plans(self)
        return self._plans

    def _judge(self) -> None:
        with self._lock:
            # After a problem the connections are gone, and what is left is its consequence.
            if self._plans is None or self._problems or self._closed:
                return
            for error in self._plans.judge():
                self._add_problem(error)

    def _quiet(self) -> Steps[None]:
        yield from self._settle()
        if self._plans is not None:
            yield from self._plans.quiet()

    def _stopped(self) -> None:
        if self._plans is not None:
            self._plans.end()

    def _notes(self) -> list[str]:
        with self._lock:
            return [] if self._plans is None else self._plans.notes

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
                msg = f"{self.name}: waited {deadline} for {wanted} {what}, {have()} so far"
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
