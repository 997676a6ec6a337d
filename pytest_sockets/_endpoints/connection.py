"""One stream, whichever side opened it."""

from __future__ import annotations

import re
from typing import Any, cast, final, overload

from pytest_sockets._endpoints.claims import Direction, hold
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.faces import Face, Twin, drive, drive_async, verb
from pytest_sockets._engine.clock import Deadline, as_seconds
from pytest_sockets._engine.stream import PeerEnd, Stream
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import (
    EndpointClosedError,
    MismatchError,
    PeerGoneError,
    SocketsError,
    WaitTimeout,
)
from pytest_sockets._wire.events import Address, Event
from pytest_sockets._wire.framing import Exactly, Frame, Prefixed, Until, UpTo
from pytest_sockets._wire.matching import MISSING, as_bytes, as_expectation, claim
from pytest_sockets._wire.rendering import count, seconds, show, show_difference
from pytest_sockets._wire.spool import ByteLog


@final
class Connection:
    """One accepted or opened stream, recorded.

    `sent` and `received` are seen from here. Bytes that a verb did not consume are there for the
    next one. Every waiting verb takes `timeout=` in seconds (`None`: the endpoint's default;
    0: only what has arrived already) and has an awaitable twin under `aio`.

    Raises:
        PeerGoneError: the peer ended the stream before a verb could finish.
        EndpointClosedError: it was ended on our side.
        WaitTimeout: neither happened before the deadline.
    """

    def __init__(
        self, endpoint: Endpoint, stream: Stream, index: int, driven_by: str | None = None
    ) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self._driven_by = driven_by
        self._consumed = 0
        self.index = index
        """Its number on its endpoint, from 0 in order of arrival."""

    # -- receiving

    @verb
    def recv(self, n: int, *, timeout: float | None = None) -> Steps[bytes]:
        """Return up to `n` bytes as soon as there are any; ``b""`` after EOF, as `socket.recv`."""
        return (yield from self._take("recv", UpTo(n), timeout, at_eof=True))

    @verb
    def recv_exactly(self, n: int, *, timeout: float | None = None) -> Steps[bytes]:
        """Return exactly `n` bytes."""
        return (yield from self._take("recv_exactly", Exactly(n), timeout))

    @verb
    def recv_until(self, separator: bytes, *, timeout: float | None = None) -> Steps[bytes]:
        """Return everything up to and including `separator`."""
        return (yield from self._take("recv_until", Until(separator), timeout))

    @verb
    def recv_line(self, *, timeout: float | None = None) -> Steps[bytes]:
        r"""Return everything up to and including the next ``b"\n"``."""
        return (yield from self._take("recv_line", Until(b"\n"), timeout))

    @verb
    def recv_prefixed(self, format: str, *, timeout: float | None = None) -> Steps[bytes]:
        """Read a length in a `struct` format such as ``">H"`` and return so many bytes.

        The prefix counts the bytes that follow it and is not part of the result.
        """
        frame = Prefixed(format)
        data = yield from self._take("recv_prefixed", frame, timeout)
        return data[frame.size :]

    @verb
    def recv_to_eof(self, *, timeout: float | None = None) -> Steps[bytes]:
        """Return everything up to the peer's EOF."""
        self._check_inline("recv_to_eof")
        yield from self._peer_end(timeout, "recv_to_eof")
        with self._endpoint.lock:
            data = self._log.read(self._consumed)
            self._consumed = self._log.size
        return data

    # -- sending

    @verb
    def send(self, data: bytes, *, timeout: float | None = None) -> Steps[None]:
        """Send bytes and return when the kernel has all of them; ``b""`` sends nothing.

        Raises:
            WaitTimeout: the peer did not read; the message says how many bytes the kernel took.
                The rest stays queued.
        """
        content = as_bytes(data, name="data")
        self._check_inline("send")
        deadline = self._endpoint.deadline(timeout)
        stream = self._stream
        with self._endpoint.lock:
            self._endpoint.raise_problem()
            self._check_sendable()
            target = stream.record.sent.size + stream.queued + len(content)
            stream.write(content)
        late = False
        while True:
            with self._endpoint.lock:
                self._endpoint.raise_problem()
                missing = target - stream.record.sent.size
                if missing <= 0:
                    return
                if not stream.is_open:
                    self._check_sendable(missing)
            if late:
                raise WaitTimeout(self._not_taken("send", deadline, len(content), missing))
            late = yield from self._endpoint.waited(deadline, (stream.sent, target))

    # -- expecting

    @overload
    def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    def expect(
        self, expected: re.Pattern[bytes], *, until: bytes | int, timeout: float | None = None
    ) -> re.Match[bytes]: ...
    def expect(
        self, expected: Any, *, until: bytes | int | None = None, timeout: float | None = None
    ) -> Any:
        r"""Require what comes next, and consume it.

        With bytes: exactly these bytes come next; fails at the first that differs. With a compiled
        pattern: the frame that `until` ends (a separator, or a number of bytes) fully matches.

        Returns:
            The bytes, or the match.

        Raises:
            MismatchError: something else came, or the peer ended before all of it came.
        """
        __tracebackhide__ = True
        return drive(self._expect(expected, until, timeout), "expect")

    def _expect(
        self, expected: Any, until: bytes | int | None, timeout: float | None
    ) -> Steps[Any]:
        self._check_inline("expect")
        wanted = as_expectation(expected)
        if isinstance(wanted, re.Pattern):
            if until is None:
                msg = (
                    f"expect({wanted!r}) needs until=: TCP has no messages, so say where the frame "
                    r'ends, for example until=b"\r\n" or until=12 (bytes)'
                )
                raise TypeError(msg)
            pattern = cast("re.Pattern[bytes]", wanted)
            return (yield from self._expect_match(pattern, until, timeout))
        if not isinstance(wanted, bytes):
            msg = f"expect takes bytes or a compiled bytes pattern, not {wanted!r}"
            raise TypeError(msg)
        if until is not None:
            msg = "until= goes with a pattern: bytes say themselves where they end"
            raise TypeError(msg)
        return (yield from self._expect_bytes(wanted, timeout))

    def _expect_bytes(self, expected: bytes, timeout: float | None) -> Steps[bytes]:
        deadline = self._endpoint.deadline(timeout)
        equal = 0
        late = False
        while True:
            with self._endpoint.lock:
                self._endpoint.raise_problem()
                start = self._consumed
                actual = self._log.read(start + equal, start + len(expected))
                if actual != expected[equal : equal + len(actual)]:
                    difference = show_difference(expected, expected[:equal] + actual)
                    msg = f"{self.label} received something else\n{difference}"
                    raise MismatchError(msg)
                equal += len(actual)
                if equal == len(expected):
                    self._consumed += equal
                    return expected
                over = self.over("received")
            if over:
                difference = show_difference(expected, expected[:equal])
                msg = f"{self.label} received less\n{difference}\n  no more can come: {over}"
                raise MismatchError(msg)
            if late:
                msg = (
                    f"{self.label}: waited {deadline} for {show(expected)}\n"
                    f"  received so far: {show(expected[:equal])} "
                    f"({equal} of {count(len(expected), 'byte')})"
                )
                raise WaitTimeout(msg)
            late = yield from self._endpoint.waited(
                deadline, (self._stream.received, start + equal + 1)
            )

    def _expect_match(
        self, pattern: re.Pattern[bytes], until: bytes | int, timeout: float | None
    ) -> Steps[re.Match[bytes]]:
        frame: Frame = Exactly(until) if isinstance(until, int) else Until(until)
        try:
            data = yield from self._take("expect", frame, timeout)
        except PeerGoneError as error:
            msg = f"{self.label} received less than a match of {pattern.pattern!r}\n  {error}"
            raise MismatchError(msg) from error.__cause__
        found = pattern.fullmatch(data)
        if found is None:
            msg = (
                f"{self.label} received something else\n"
                f"  expected  a full match of {pattern.pattern!r}\n  received  {show(data)}"
            )
            raise MismatchError(msg)
        return found

    @verb
    def expect_eof(self, *, timeout: float | None = None) -> Steps[None]:
        """Require that EOF comes next: unread bytes or a reset fail."""
        self._check_inline("expect_eof")
        deadline = self._endpoint.deadline(timeout)
        stream = self._stream
        late = False
        while True:
            with self._endpoint.lock:
                self._endpoint.raise_problem()
                unread = self._log.read(self._consumed)
                ended = stream.peer_ended
            if unread:
                came = f"{count(len(unread), 'byte')} came: {show(unread)}"
                msg = f"{self.label} expected EOF, but {came}"
                raise MismatchError(msg)
            if ended == "eof":
                return
            if ended == "reset":
                msg = f"{self.label} expected EOF, but {self.over('received')}"
                raise MismatchError(msg)
            self._check_readable()
            if late:
                msg = f"{self.label}: waited {deadline} for EOF; the peer has not closed its side"
                raise WaitTimeout(msg)
            late = yield from self._endpoint.waited(
                deadline, (stream.peer_end, 1), (stream.received, self._consumed + 1)
            )

    @verb
    def expect_reset(self, *, timeout: float | None = None) -> Steps[None]:
        """Require that the peer resets the connection; EOF fails, unread bytes do not matter."""
        ended = yield from self._wait_peer_end(timeout, "a reset")
        if ended != "reset":
            msg = f"{self.label} expected a reset, but {self.over('received')}"
            raise MismatchError(msg)

    @verb
    def expect_nothing(self, *, within: float) -> Steps[None]:
        """Require that no byte comes for `within` seconds; EOF ends the wait early and is no byte.

        A silence of some milliseconds proves little and costs its length each time; where the
        client can be brought to a known point, `assert_nothing_received` there is both faster and
        certain.
        """
        self._check_inline("expect_nothing")
        deadline = Deadline(as_seconds(within, name="within"))
        yield from self._endpoint.settle()
        late = False
        while True:
            with self._endpoint.lock:
                self._endpoint.raise_problem()
                unread = self._log.read(self._consumed)
                over = self.over("received")
            if unread:
                msg = (
                    f"{self.label} expected nothing for {seconds(within)}, "
                    f"but {count(len(unread), 'byte')} came: {show(unread)}"
                )
                raise MismatchError(msg)
            if over or late:
                return
            late = yield from self._endpoint.waited(
                deadline, (self._stream.received, self._consumed + 1)
            )

    # -- ends

    @verb
    def wait_eof(self, *, timeout: float | None = None) -> Steps[None]:
        """Wait for the peer's EOF, whatever came before it."""
        yield from self._peer_end(timeout, "wait_eof")

    @verb
    def wait_closed(self, *, timeout: float | None = None) -> Steps[None]:
        """Wait until our side has ended: its FIN is out, or it was reset."""
        deadline = self._endpoint.deadline(timeout)
        while not self._stream.ended.level:
            self._endpoint.raise_problem()
            if (yield from self._endpoint.waited(deadline, (self._stream.ended, 1))):
                driver = (
                    f"its driver is {self._driven_by}" if self._driven_by else "nobody closed it"
                )
                msg = f"{self.label}: waited {deadline} for the end of our side; {driver}"
                raise WaitTimeout(msg)

    @verb
    def close(self, *, timeout: float | None = None) -> Steps[None]:
        """End in order: wait until the kernel has our bytes, send FIN, and return.

        What the peer still sends is drained and recorded in the background, for as long as the
        endpoint's timeout. Idempotent.
        """
        yield from self._end("close", self._stream.close, timeout)

    @verb
    def send_eof(self, *, timeout: float | None = None) -> Steps[None]:
        """Send FIN and go on receiving (half-close)."""
        yield from self._end("send_eof", self._stream.send_eof, timeout)

    def reset(self) -> None:
        """End abruptly with RST. Does not block; queued bytes are dropped. Idempotent.

        AF_UNIX has no RST: the peer sees EOF, or ECONNRESET when it had sent bytes that were not
        read here (unix(7)).
        """
        self._stream.reset()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End in order, without waiting."""
        self._stream.close()

    def _end(self, name: str, end: Any, timeout: float | None) -> Steps[None]:
        deadline = self._endpoint.deadline(timeout)
        stream = self._stream
        with self._endpoint.lock:
            waiting = stream.queued
            end()
        while not stream.ended.level:
            self._endpoint.raise_problem()
            if (yield from self._endpoint.waited(deadline, (stream.ended, 1))):
                raise WaitTimeout(self._not_taken(name, deadline, waiting, stream.queued))

    # -- the record

    @property
    def received(self) -> bytes:
        """All bytes received so far, consumed or not."""
        __tracebackhide__ = True
        self._endpoint.sync()
        with self._endpoint.lock:
            return self._log.read()

    @property
    def sent(self) -> bytes:
        """All bytes that the kernel has taken from us so far."""
        __tracebackhide__ = True
        self._endpoint.sync()
        with self._endpoint.lock:
            return self._stream.record.sent.read()

    @property
    def transcript(self) -> tuple[Event, ...]:
        """All that has happened on it so far, in order, as frozen events."""
        __tracebackhide__ = True
        self._endpoint.sync()
        with self._endpoint.lock:
            return tuple(self._stream.record)

    @property
    def peer_ended(self) -> PeerEnd | None:
        """How the peer ended its side so far: `None` (it has not), ``"eof"`` or ``"reset"``."""
        __tracebackhide__ = True
        self._endpoint.sync()
        return self._stream.peer_ended

    @property
    def is_closed(self) -> bool:
        """Whether our side has ended: its FIN is out, or it was reset. Does not block."""
        return bool(self._stream.ended.level)

    @property
    def peer_address(self) -> Address | None:
        """The other end's address; `None` for an unnamed AF_UNIX socket."""
        return self._stream.peer_address

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint it belongs to."""
        return self._endpoint

    @verb
    def assert_received(
        self, expected: Any = MISSING, *, contains: Any = MISSING, timeout: float | None = None
    ) -> Steps[None]:
        """Require what was received as a whole, waiting while it can still come.

        Everything sent before this call counts. Fails as soon as the claim can no longer become
        true, so the outcome does not depend on how the stream was cut.

        Args:
            expected: bytes (the whole stream), a compiled bytes pattern (found somewhere), or any
                object with an ``==`` of its own.
            contains: bytes that occur somewhere; instead of `expected`.
            timeout: seconds; `None` means the endpoint's default.
        """
        yield from self._hold(expected, contains, "received", timeout)

    @verb
    def assert_sent(
        self, expected: Any = MISSING, *, contains: Any = MISSING, timeout: float | None = None
    ) -> Steps[None]:
        """Require what was sent from here as a whole; see `assert_received`."""
        yield from self._hold(expected, contains, "sent", timeout)

    @verb
    def assert_nothing_received(self) -> Steps[None]:
        """Require that no byte has been sent to here before this call."""
        yield from self._endpoint.settle()
        self._endpoint.raise_problem()
        with self._endpoint.lock:
            data = self._log.read()
        if data:
            msg = f"{self.label} received {count(len(data), 'byte')}, expected none: {show(data)}"
            raise MismatchError(msg)

    @property
    def aio(self) -> AsyncConnectionFace:
        """The same verbs, awaitable, for asyncio and trio."""
        return AsyncConnectionFace(self)

    @property
    def label(self) -> str:
        """Its name in messages."""
        name = self._endpoint.name
        return f"{name} connection {self.index}" if self._endpoint.accepts else name

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        if self._stream.peer_ended:
            state += f", peer sent {self._stream.peer_ended}"
        record = self._stream.record
        return (
            f"<Connection {self.index} of {self._endpoint.name}, "
            f"received {record.received.size}, sent {record.sent.size}, {state}>"
        )

    # -- inside

    @property
    def _log(self) -> ByteLog:
        return self._stream.record.received

    def log(self, direction: Direction) -> ByteLog:
        """Return the bytes of one direction."""
        record = self._stream.record
        return record.received if direction == "received" else record.sent

    def signal(self, direction: Direction) -> Signal:
        """Return the signal that rises with the bytes of one direction."""
        return self._stream.received if direction == "received" else self._stream.sent

    def over(self, direction: Direction) -> str | None:
        """Say why no more bytes can come in one direction; `None` while they can."""
        stream = self._stream
        if stream.peer_ended == "reset":
            why = stream.reset_error
            return f"the peer reset the connection ({why.strerror if why else 'reset'})"
        if direction == "received" and stream.peer_ended == "eof":
            return "the peer sent EOF"
        if not stream.is_open:
            return "the connection is closed on our side"
        if direction == "sent" and not stream.can_send and not stream.queued:
            return "our side has sent EOF"
        return None

    def _hold(
        self, expected: Any, contains: Any, direction: Direction, timeout: float | None
    ) -> Steps[None]:
        deadline = self._endpoint.deadline(timeout)
        wanted = claim(expected, contains)
        me = (self,)
        yield from hold(self._endpoint, wanted, direction, deadline, lambda: me, None, self.label)

    def _take(
        self, name: str, frame: Frame, timeout: float | None, *, at_eof: bool = False
    ) -> Steps[bytes]:
        """Consume the next frame."""
        self._check_inline(name)
        deadline = self._endpoint.deadline(timeout)
        log = self._log
        late = False
        while True:
            with self._endpoint.lock:
                self._endpoint.raise_problem()
                found, offset = frame.find(log, self._consumed)
                if found:
                    data = log.read(self._consumed, offset)
                    self._consumed = offset
                    return data
                unread = log.read(self._consumed)
            if at_eof and self._stream.peer_ended == "eof":
                return b""
            self._check_readable(f"{name} wanted {frame.wanted}", unread)
            if late:
                msg = (
                    f"{self.label}: {name} waited {deadline} for {frame.wanted}\n"
                    f"  unread so far: {show(unread)} ({count(len(unread), 'byte')})"
                )
                raise WaitTimeout(msg)
            late = yield from self._endpoint.waited(deadline, (self._stream.received, offset))

    def _peer_end(self, timeout: float | None, name: str) -> Steps[None]:
        """Wait for EOF; a reset is an error."""
        ended = yield from self._wait_peer_end(timeout, "EOF")
        if ended != "eof":
            self._check_readable(f"{name} wanted EOF", self._log.read(self._consumed))

    def _wait_peer_end(self, timeout: float | None, what: str) -> Steps[PeerEnd]:
        deadline = self._endpoint.deadline(timeout)
        late = False
        while True:
            self._endpoint.raise_problem()
            if self._stream.peer_ended is not None:
                return self._stream.peer_ended
            self._check_readable(f"it waited for {what}")
            if late:
                msg = f"{self.label}: waited {deadline} for {what}; the peer has not ended its side"
                raise WaitTimeout(msg)
            late = yield from self._endpoint.waited(deadline, (self._stream.peer_end, 1))

    def _check_inline(self, name: str) -> None:
        if self._driven_by:
            msg = (
                f"{self.label} is driven by {self._driven_by}, so the test cannot {name}() on it; "
                "wait, assert and read the record, or use tcp_server or unix_server instead"
            )
            raise SocketsError(msg)

    def _check_readable(self, wanted: str = "", unread: bytes = b"") -> None:
        over = self.over("received")
        if over is None:
            return
        if self._endpoint.is_closed and self._stream.peer_ended is None:
            self._endpoint.raise_closed()
        tail = f", but {over}" if wanted else over
        rest = f"; unread: {show(unread)} ({count(len(unread), 'byte')})" if unread else ""
        msg = f"{self.label}: {wanted}{tail}{rest}"
        if self._stream.peer_ended is None:
            raise EndpointClosedError(msg)
        raise PeerGoneError(msg) from self._stream.reset_error

    def _check_sendable(self, missing: int = 0) -> None:
        stream = self._stream
        if stream.can_send:
            return
        lost = f"; {count(missing, 'byte')} did not go out" if missing else ""
        if stream.peer_ended == "reset":
            msg = f"{self.label} cannot send: {self.over('sent')}{lost}"
            raise PeerGoneError(msg) from stream.reset_error
        if self._endpoint.is_closed:
            self._endpoint.raise_closed()
        msg = (
            f"{self.label} cannot send: its side was ended by close(), send_eof() or reset(){lost}"
        )
        raise EndpointClosedError(msg)

    def _not_taken(self, name: str, deadline: Deadline, total: int, missing: int) -> str:
        return (
            f"{self.label}: {name} waited {deadline} for the peer to read; "
            f"the kernel took {total - missing:,} of {count(total, 'byte')}"
        )


class AsyncConnectionFace(Face):
    """The awaitable verbs of a `Connection`: `connection.aio`."""

    recv = Twin(Connection.recv)
    recv_exactly = Twin(Connection.recv_exactly)
    recv_until = Twin(Connection.recv_until)
    recv_line = Twin(Connection.recv_line)
    recv_prefixed = Twin(Connection.recv_prefixed)
    recv_to_eof = Twin(Connection.recv_to_eof)
    send = Twin(Connection.send)
    expect_eof = Twin(Connection.expect_eof)
    expect_reset = Twin(Connection.expect_reset)
    expect_nothing = Twin(Connection.expect_nothing)
    wait_eof = Twin(Connection.wait_eof)
    wait_closed = Twin(Connection.wait_closed)
    close = Twin(Connection.close)
    send_eof = Twin(Connection.send_eof)
    assert_received = Twin(Connection.assert_received)
    assert_sent = Twin(Connection.assert_sent)
    assert_nothing_received = Twin(Connection.assert_nothing_received)

    @overload
    async def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    async def expect(
        self, expected: re.Pattern[bytes], *, until: bytes | int, timeout: float | None = None
    ) -> re.Match[bytes]: ...
    async def expect(
        self, expected: Any, *, until: bytes | int | None = None, timeout: float | None = None
    ) -> Any:
        """Await what `Connection.expect` waits for; same arguments and result."""
        __tracebackhide__ = True
        steps = cast("Connection", self._owner)._expect(expected, until, timeout)
        return await drive_async(steps)
