"""A stream as its user sees it: the record, what has ended, and whose turn it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from pytest_sockets._endpoints.claims import Direction
from pytest_sockets._endpoints.faulty import Faulty
from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.stream import Stream
from pytest_sockets._engine.stream_base import PeerEnd
from pytest_sockets._engine.waiting import Signal, Steps
from pytest_sockets._wire.errors import (
    EndpointClosedError,
    MismatchError,
    PeerGoneError,
    SocketsError,
    WaitTimeout,
)
from pytest_sockets._wire.events import Address, Event
from pytest_sockets._wire.framing import Frame
from pytest_sockets._wire.record import Packets
from pytest_sockets._wire.rendering import count, show_log
from pytest_sockets._wire.spool import ByteLog


@dataclass(frozen=True, slots=True)
class Driven:
    """Who drives a connection, and from which thread it may use the connection's verbs."""

    title: str
    thread: int | None = None
    instead: str = "use tcp_server or unix_server instead"
    """What a test does that wants to use the verbs; by itself the word on a server's behaviour."""


class StreamView:
    """What can be asked of a stream at any time, also after its end."""

    def __init__(self, endpoint: Faulty, stream: Stream, index: int) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self._driven_by: Driven | None = None
        self._is_used = False  # by the test, which then drives it
        self._consumed = 0
        self._packet_end = Packets(stream.record).end_of if stream.has_messages else None
        self.saved: dict[str, Any] = {}
        """What steps of a script with ``save=`` have received, by name."""
        self.index = index
        """Its number on its endpoint, from 0 in order of arrival."""

    # -- the record

    @property
    def received(self) -> bytes:
        """All bytes received so far, consumed or not; urgent ones (MSG_OOB) are among them."""
        __tracebackhide__ = True
        self._endpoint._sync()
        with self._endpoint._lock:
            return self._log.read()

    @property
    def sent(self) -> bytes:
        """All bytes that the kernel has taken from us so far."""
        __tracebackhide__ = True
        self._endpoint._sync()
        with self._endpoint._lock:
            return self._stream.record.sent.read()

    @property
    def transcript(self) -> tuple[Event, ...]:
        """All that has happened on it so far, in order, as frozen events."""
        __tracebackhide__ = True
        self._endpoint._sync()
        with self._endpoint._lock:
            return tuple(self._stream.record)

    @property
    def peer_ended(self) -> PeerEnd | None:
        """How the peer ended its side so far: `None` (it has not), ``"eof"`` or ``"reset"``."""
        __tracebackhide__ = True
        self._endpoint._sync()
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
    def endpoint(self) -> Faulty:
        """The endpoint it belongs to."""
        return self._endpoint

    @property
    def _label(self) -> str:
        """Its name in messages."""
        name = self._endpoint.name
        return f"{name} connection {self.index}" if self._endpoint._accepts else name

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

    def _note(self, text: str) -> None:
        """Put a sentence into the transcript."""
        with self._endpoint._lock:
            self._stream.record.mark(CLOCK.stamp(), "note", note=text)

    @property
    def _log(self) -> ByteLog:
        return self._stream.record.received

    @property
    def _unread(self) -> int:
        """How many bytes have come and were not consumed."""
        return self._log.size - self._consumed

    def _show_unread(self) -> str:
        """Return the beginning of them, for a message."""
        return show_log(self._log, self._consumed)

    def _bytes(self, direction: Direction) -> ByteLog:
        """Return the bytes of one direction."""
        record = self._stream.record
        return record.received if direction == "received" else record.sent

    def _signal(self, direction: Direction) -> Signal:
        """Return the signal that rises with the bytes of one direction."""
        return self._stream.received if direction == "received" else self._stream.sent

    def _fault(self) -> tuple[Signal, float]:
        """Return what a wait for our own bytes to go out has to see beside them.

        With the endpoint's lock held since the look at what faults have done.
        """
        relief = self._stream.relief
        return relief, relief.level + 1

    @property
    def _broken_by(self) -> str | None:
        """What the test did to break the conversation: what a plan misses is its doing."""
        faults = self._stream.faults
        return None if faults is None else faults.broken_by

    def _excuses(self, error: BaseException) -> bool:
        """Whether an error of what drives it only follows from what the test did to break it."""
        what_follows = (SocketsError, MismatchError, WaitTimeout)
        return self._broken_by is not None and isinstance(error, what_follows)

    @property
    def _ended_by(self) -> str | None:
        """What the test did that has ended our side, beside a verb of the connection."""
        faults = self._stream.faults
        return None if faults is None else faults.ended_by

    def _why_over(self, direction: Direction) -> str | None:
        """Say why no more bytes can come in one direction; `None` while they can."""
        stream = self._stream
        if stream.peer_ended == "reset":
            why = stream.reset_error
            return f"the peer reset the connection ({why.strerror if why else 'reset'})"
        if direction == "received" and stream.peer_ended == "eof":
            return "the peer sent EOF"
        by = f" by {self._ended_by}" if self._ended_by else ""
        if not stream.is_open:
            return f"the connection is closed on our side{by}"
        if direction == "sent" and not stream.can_send and not stream.queued:
            return f"our side has sent EOF{by}"
        return None

    def _take(
        self, name: str, frame: Frame, timeout: float | None, *, at_eof: bool = False
    ) -> Steps[bytes]:
        """Consume the next frame."""
        self._check_inline(name)
        deadline = self._endpoint._deadline(timeout)
        log = self._log
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()
                try:
                    found, offset = frame.find(log, self._consumed)
                except MismatchError as error:
                    msg = f"{self._label}: {name} wanted {frame.wanted}, but {error}"
                    raise MismatchError(msg) from None
                if found:
                    data = log.read(self._consumed, offset)
                    self._consumed = offset
                    return data
                # Under the same lock as the look: an end that came behind it has bytes before it.
                if at_eof and self._stream.peer_ended == "eof":
                    return b""
                self._check_readable(f"{name} wanted {frame.wanted}")
            if late:
                msg = (
                    f"{self._label}: {name} waited {deadline} for {frame.wanted}\n"
                    f"  unread so far: {self._show_unread()} ({count(self._unread, 'byte')})"
                )
                raise WaitTimeout(msg)
            late = yield from self._endpoint._waited(deadline, (self._stream.received, offset))

    def _peer_end(self, timeout: float | None, name: str) -> Steps[None]:
        """Wait for EOF; a reset is an error."""
        ended = yield from self._wait_peer_end(timeout, "EOF")
        if ended != "eof":
            self._check_readable(f"{name} wanted EOF")

    def _wait_peer_end(self, timeout: float | None, what: str) -> Steps[PeerEnd]:
        deadline = self._endpoint._deadline(timeout)
        late = False
        while True:
            with self._endpoint._lock:
                self._endpoint._raise_problem()
                if self._stream.peer_ended is not None:
                    return self._stream.peer_ended
                self._check_readable(f"it waited for {what}")
            if late:
                msg = (
                    f"{self._label}: waited {deadline} for {what}; the peer has not ended its side"
                )
                raise WaitTimeout(msg)
            late = yield from self._endpoint._waited(deadline, (self._stream.peer_end, 1))

    def _check_inline(self, name: str) -> None:
        driver = self._driven_by
        if driver is None:
            self._is_used = True
        elif driver.thread != threading.get_ident():
            msg = (
                f"{self._label} is driven by {driver.title}, so the test cannot {name}() on it; "
                f"wait, assert and read the record, or {driver.instead}"
            )
            raise SocketsError(msg)

    def _check_readable(self, wanted: str = "") -> None:
        over = self._why_over("received")
        if over is None:
            return
        if self._endpoint.is_closed and self._stream.peer_ended is None:
            self._endpoint._raise_closed()
        tail = f", but {over}" if wanted else over
        unread = count(self._unread, "byte")
        rest = f"; unread: {self._show_unread()} ({unread})" if self._unread else ""
        msg = f"{self._label}: {wanted}{tail}{rest}"
        if self._stream.peer_ended is None:
            raise EndpointClosedError(msg)
        raise PeerGoneError(msg) from self._stream.reset_error

    def _check_sendable(self, missing: int = 0) -> None:
        stream = self._stream
        if stream.can_send:
            return
        lost = f"; {count(missing, 'byte')} did not go out" if missing else ""
        if stream.peer_ended == "reset":
            msg = f"{self._label} cannot send: {self._why_over('sent')}{lost}"
            raise PeerGoneError(msg) from stream.reset_error
        if self._endpoint.is_closed:
            self._endpoint._raise_closed()
        by = self._ended_by or "close(), send_eof() or reset()"
        msg = f"{self._label} cannot send: its side was ended by {by}{lost}"
        raise EndpointClosedError(msg)

    def _not_taken(self, name: str, deadline: Deadline, total: int, missing: int) -> str:
        taken = max(0, total - missing)  # what was queued before it goes first
        return (
            f"{self._label}: {name} waited {deadline} for the peer to read; "
            f"the kernel took {taken:,} of {count(total, 'byte')}"
        )
