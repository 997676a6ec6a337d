"""One stream, whichever side opened it."""

from __future__ import annotations

import re
from typing import Any, cast, final, overload

from pytest_sockets._endpoints.claims import Direction, hold
from pytest_sockets._endpoints.faces import Face, Twin, drive_async, verb
from pytest_sockets._endpoints.passing import Passing
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.waiting import Steps
from pytest_sockets._wire.errors import MismatchError, WaitTimeout
from pytest_sockets._wire.matching import MISSING, claim
from pytest_sockets._wire.rendering import count, show_log


@final
class Connection(Passing):
    """One accepted or opened stream, recorded.

    `sent` and `received` are seen from here. Bytes that a verb did not consume are there for the
    next one. Every waiting verb takes `timeout=` in seconds (`None`: the endpoint's default;
    0: only what has arrived already) and has an awaitable twin under `aio`.

    Raises:
        PeerGoneError: the peer ended the stream before a verb could finish.
        EndpointClosedError: it was ended on our side.
        WaitTimeout: neither happened before the deadline.
        MismatchError: what an `expect` or `assert` requires is not so, or can no longer become so.
        SocketsError: a script, a handler, rules or a behaviour of the server (echo, silence) drives
            it, so the test cannot.
    """

    # -- ends

    @verb
    def wait_closed(self, *, timeout: float | None = None) -> Steps[None]:
        """Wait until our side has ended: its FIN is out, or it was reset."""
        deadline = self._endpoint._deadline(timeout)
        if (yield from self._not_ended(deadline)):
            by = self._driven_by
            why = "nobody closed it" if by is None else f"it is driven by {by.title}"
            msg = f"{self._label}: waited {deadline} for the end of our side; {why}"
            raise WaitTimeout(msg)

    @verb
    def close(self, *, timeout: float | None = None) -> Steps[None]:
        """End in order: wait until the kernel has our bytes, send FIN, and return.

        What the peer still sends is drained and recorded in the background, for as long as the
        endpoint's timeout. Idempotent.

        Raises:
            WaitTimeout: the peer did not read; FIN follows once it has.
        """
        yield from self._end("close", self._stream.close, timeout)

    @verb
    def send_eof(self, *, timeout: float | None = None) -> Steps[None]:
        """Wait until the kernel has our bytes, send FIN, and go on receiving (half-close).

        Raises:
            WaitTimeout: the peer did not read; FIN follows once it has.
        """
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
        deadline = self._endpoint._deadline(timeout)
        stream = self._stream
        with self._endpoint._lock:
            waiting = stream.own_queued
            end()
            if stream.ended.level:
                return
        if (yield from self._not_ended(deadline, may_be_relieved=True)):
            raise WaitTimeout(self._not_taken(name, deadline, waiting, stream.own_queued))
        with self._endpoint._lock:
            if self._endpoint.is_closed and "eof_sent" not in stream.record.kinds:
                self._endpoint._raise_closed()

    def _not_ended(self, deadline: Deadline, *, may_be_relieved: bool = False) -> Steps[bool]:
        """Wait for the end of our side; return whether the deadline passed before it.

        A fault that keeps the end back relieves who has asked for it from waiting.
        """
        ended = self._stream.ended
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()  # which ends it too, but not as it was wanted
                if ended.level or late:
                    return not ended.level
                if may_be_relieved and self._stream.is_relieved:
                    return False
                fault = self._fault()
            late = yield from self._endpoint._waited(deadline, (ended, 1), fault)

    # -- asserting

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
        """Require that no byte has been sent to here before this call; does not wait."""
        yield from self._endpoint._settle()
        self._endpoint._raise_problem()
        with self._endpoint._lock:
            size, came = self._log.size, show_log(self._log)
        if size:
            msg = f"{self._label} received {count(size, 'byte')}, expected none: {came}"
            raise MismatchError(msg)

    @property
    def aio(self) -> AsyncConnectionFace:
        """The same verbs, awaitable, for asyncio and trio."""
        return AsyncConnectionFace(self)

    def _hold(
        self, expected: Any, contains: Any, direction: Direction, timeout: float | None
    ) -> Steps[None]:
        deadline = self._endpoint._deadline(timeout)
        wanted = claim(expected, contains)
        me = (self,)
        yield from hold(self._endpoint, wanted, direction, deadline, lambda: me, None, self._label)


class AsyncConnectionFace(Face):
    """The awaitable verbs of a `Connection`: `connection.aio`."""

    recv = Twin(Connection.recv)
    recv_exactly = Twin(Connection.recv_exactly)
    recv_until = Twin(Connection.recv_until)
    recv_line = Twin(Connection.recv_line)
    recv_prefixed = Twin(Connection.recv_prefixed)
    recv_to_eof = Twin(Connection.recv_to_eof)
    recv_fds = Twin(Connection.recv_fds)
    send = Twin(Connection.send)
    send_apart = Twin(Connection.send_apart)
    send_fds = Twin(Connection.send_fds)
    wait_peer_read = Twin(Connection.wait_peer_read)
    expect_eof = Twin(Connection.expect_eof)
    expect_reset = Twin(Connection.expect_reset)
    expect_nothing = Twin(Connection.expect_nothing)
    hold = Twin(Connection.hold)
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
