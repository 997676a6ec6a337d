"""Runs an asyncio protocol on a recorded stream."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.parties import Owner
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.tasks import Tasks
from pytest_sockets._engine.transport import StreamTransport
from pytest_sockets._engine.waiting import Signal
from pytest_sockets._wire.errors import PeerGoneError

GONE = (
    PeerGoneError,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    asyncio.IncompleteReadError,
)
"""What code meets that reads from or writes to a peer who has left."""


class Tap:
    """The driver that hands a stream to an asyncio protocol, and the transport back to the stream.

    The stream calls it with the endpoint's lock held, from any thread. It notes what has come and
    asks for a turn: a callback of the I/O loop, in which the protocol is called without the lock.
    Turns come in order, so a protocol sees what asyncio promises: `connection_made` first, the data
    in order, `eof_received` behind them, `connection_lost` once and last.

    Args:
        owner: the endpoint.
        engine: the I/O thread.
        stream: what it drives.
        factory: makes the protocol; called in the I/O thread.
        title: its name as long as the protocol has none.
        context: the context variables of the protocol's code.
        on_made: called with the protocol.
        on_over: called when it is over.
    """

    def __init__(
        self,
        owner: Owner,
        engine: Engine,
        stream: Stream,
        factory: Callable[[Tap], asyncio.BaseProtocol],
        title: str,
        context: contextvars.Context,
        on_made: Callable[[asyncio.BaseProtocol], None],
        on_over: Callable[[Tap], None],
    ) -> None:
        self.title = title
        self.over = Signal()  # finished when the connection is lost and its tasks have ended
        self.loop = engine.loop
        self._owner = owner
        self._stream = stream
        self._factory = factory
        self._on_made = on_made
        self._on_over = on_over
        self._at_work = engine.at_work
        self._at_work.add(self)
        self.tasks = Tasks(engine, context, self.take_error, self._check_over)
        self.transport = StreamTransport(stream, owner._lock, self._wake, self._call)
        self.writer: asyncio.StreamWriter | None = None
        self._inbox: deque[bytes | memoryview] = deque()
        self._error: BaseException | None = None
        self._is_due = False
        self._is_made = False
        self._is_eof_told = False
        self._is_lost = False
        self._is_ended = False
        stream.peer_end.watch(1, self._wake)
        stream.ended.watch(1, self._wake)

    # -- the driver: with the lock held

    def on_open(self, stream: Stream) -> None:
        """Make the protocol in the next turn."""
        self._wake()

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Keep bytes for the next turn."""
        if not self.transport._is_closing:
            self._inbox.append(data)
            self._wake()

    def on_eof(self, stream: Stream) -> None:
        """Leave it to the signal, which also comes when our own FIN was out before."""

    def on_drained(self, stream: Stream) -> None:
        """Leave it to the signal, which also comes before the queue is empty."""

    def on_over(self, stream: Stream, *, by_reset: bool) -> None:
        """Leave it to the signal."""

    def end(self) -> None:
        """Have the connection lost and its tasks cancelled, as the endpoint closes."""
        self._is_ended = True
        self._wake()

    # -- errors

    def fail(self, error: BaseException) -> None:
        """Make an error of the protocol's code a problem. Later ones only follow from the first."""
        if self._error is None:
            self._error = error
            # `pytest.fail` raises a BaseException; on this thread it is an error like others.
            self._owner._fail(cast("Exception", error))
            self._stream.reset()

    def take_error(self, error: BaseException) -> None:
        """Take what has escaped from a task: a problem, unless it only says that the peer left."""
        if not isinstance(error, GONE) or not self._is_left:
            self.fail(error)

    @property
    def _is_left(self) -> bool:
        """Whether the peer, or somebody on our side who is not the protocol, ended the stream."""
        stream, transport = self._stream, self.transport
        return stream.peer_ended is not None or (transport.is_over and not transport._is_closing)

    def _call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call the user's code; `None` where it has failed."""
        try:
            return callback(*args)
        except BaseException as error:
            self.fail(error)
            return None

    # -- turns

    def _wake(self) -> None:
        if self._is_due:
            return
        self._is_due = True
        if Engine.is_here():
            self.loop.call_soon(self._turn, context=self.tasks.context)
        else:
            self.loop.call_soon_threadsafe(self._turn, context=self.tasks.context)

    def _turn(self) -> None:
        self._is_due = False  # before it looks: what comes meanwhile asks for another turn
        if not self._is_made and not self._is_lost:
            self._make()
            self._wake()  # asyncio, too, delivers nothing in the turn of connection_made
            return
        if not self._is_lost:
            # Bytes, EOF and the loss each in a turn of their own, as asyncio does: what the
            # protocol starts with the one has run by the other.
            has_delivered = not self._is_ended and (self._deliver() or self._deliver_eof())
            if not self._is_ended:
                self.transport.relieve()
            if has_delivered:
                self._wake()
            elif self._is_ended or self.transport.is_over:
                self._lose()
        if self._is_ended:
            self.tasks.cancel()
            self._is_ended = False  # once: who cleans up must not be interrupted again
        self._check_over()

    def _make(self) -> None:
        if self._is_ended:  # too late for anybody to be served
            self._is_lost = True
            return
        protocol = self._call(self._factory, self)
        if self._error is None and not hasattr(protocol, "connection_made"):
            msg = (
                f"{self.title} made {protocol!r}, which is no asyncio.Protocol: return one from it"
            )
            self.fail(TypeError(msg))
        if self._error is not None:
            self._is_lost = True
            return
        self._is_made = True
        self._on_made(protocol)
        self.transport.set_protocol(protocol)
        self._call(protocol.connection_made, self.transport)

    def _deliver(self) -> bool:
        """Deliver what has come; return whether there was anything."""
        has_some = self._wants and bool(self._inbox)
        while self._wants and self._inbox:
            self._feed(self._inbox.popleft())
        return has_some

    def _deliver_eof(self) -> bool:
        """Deliver EOF, where it comes now; return whether it did."""
        if not self._wants or self._stream.peer_ended != "eof" or self._is_eof_told:
            return False
        self._is_eof_told = True
        protocol = cast("asyncio.Protocol", self.transport.get_protocol())
        if not self._call(protocol.eof_received):
            self.transport.close()
        return True

    @property
    def _wants(self) -> bool:
        return self._error is None and self.transport.is_delivering

    def _feed(self, data: bytes | memoryview) -> None:
        protocol = self.transport.get_protocol()
        if isinstance(protocol, asyncio.BufferedProtocol):
            left = self._call(_fill, protocol, data)
            if left:
                self._inbox.appendleft(left)
        else:
            self._call(cast("asyncio.Protocol", protocol).data_received, bytes(data))

    def _lose(self) -> None:
        self._is_lost = True
        self._inbox.clear()
        error = self._error
        if error is None and self._stream.peer_ended == "reset":
            error = self._stream.reset_error
        self._call(self.transport.get_protocol().connection_lost, error)

    def _check_over(self) -> None:
        if self._is_lost and self.tasks.are_idle and not self.over.level:
            self._at_work.discard(self)
            self.over.finish()
            self._on_over(self)


def _fill(protocol: asyncio.BufferedProtocol, data: bytes | memoryview) -> memoryview:
    """Copy into the protocol's buffer what it has room for, and return the rest."""
    buffer = memoryview(protocol.get_buffer(len(data))).cast("B")
    size = min(len(buffer), len(data))
    if not size:
        msg = "get_buffer() returned an empty buffer"
        raise RuntimeError(msg)
    buffer[:size] = data[:size]
    protocol.buffer_updated(size)
    return memoryview(data)[size:]


class Callback:
    """Serves each connection with a `(reader, writer)` callback, as `asyncio.start_server` does."""

    def __init__(self, callback: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]):
        self._callback = callback

    def __call__(self, tap: Tap) -> asyncio.BaseProtocol:
        """Return the protocol that feeds a reader and calls back."""

        def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # From 3.12 on asyncio does not hold it, and a writer that is collected closes. So a
            # callback that returns would end its connection there, and leave it open on 3.11.
            tap.writer = writer
            coroutine = self._callback(reader, writer)
            if asyncio.iscoroutine(coroutine):
                task = tap.loop.create_task(_serve(tap, coroutine))
                # Without this, one that is cancelled before its first step "was never awaited".
                task.add_done_callback(lambda _: coroutine.close())

        reader = asyncio.StreamReader(loop=tap.loop)
        return asyncio.StreamReaderProtocol(reader, call, loop=tap.loop)


async def _serve(tap: Tap, coroutine: Any) -> None:
    try:
        await coroutine
    except asyncio.CancelledError:
        tap.transport.close()
        raise
    except BaseException as error:
        tap.take_error(error)
        tap.transport.close()
