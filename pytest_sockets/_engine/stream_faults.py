"""The faults of one stream: those that wait for their moment, and those at work on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._engine.works import (
    Corrupted,
    Delayed,
    Sliced,
    Stalled,
    Throttled,
    Unread,
    Work,
)
from pytest_sockets._wire.rendering import count, show_value
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    BeforeSend,
    Close,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    OnFirstByte,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)

if TYPE_CHECKING:
    from pytest_sockets._engine.stream import Stream


BEGINNING = (None, AtAccept(), AfterReceived(0), AfterSent(0))
"""The moments that a new connection meets at once."""


class Cause(Protocol):
    """A fault of the endpoint, as one of its streams sees it."""

    @property
    def effect(self) -> Effect:
        """What it does."""
        ...

    @property
    def moment(self) -> Moment | None:
        """When; `None` is at once."""
        ...

    def claim(self) -> bool:
        """Count a hit; `False` where the fault may have no more of them."""
        ...

    def draw(self, index: int | None) -> random.Random:
        """Return where its random choices on a connection come from."""
        ...


class StreamFaults:
    """What faults do to a stream. The endpoint's lock guards it.

    Of several that are due at the same moment the one made first acts first, and each acts on what
    those before it let pass.
    """

    def __init__(self, stream: Stream) -> None:
        self.broken_by: str | None = None
        """What breaks the conversation, in words."""
        self.ended_by: str | None = None
        """What has ended our side, in words."""
        self._stream = stream
        self._waiting: list[tuple[Cause, int]] = []  # with the bytes received when it was made
        self._works: dict[Cause, Work] = {}
        self._keeps = False  # whether it is one of these that what goes out next waits for

    # -- faults come and go

    def begin(self, causes: Sequence[Cause]) -> None:
        """Have the faults act that were there before the stream."""
        # All wait before the first acts: what it sends may meet the moment of another.
        self._waiting = [(cause, 0) for cause in causes]
        self._act_where(lambda moment, _: moment in BEGINNING)

    def add(self, cause: Cause) -> None:
        """Have a new fault act at its moment; one that has passed does not come again."""
        moment, record = cause.moment, self._stream.record
        received, sent = record.received.size, record.sent.size
        at_once = moment is None
        if isinstance(moment, AfterSent):
            at_once, passed = moment.n == sent, moment.n < sent
        elif isinstance(moment, AfterReceived) and isinstance(moment.what, int):
            at_once, passed = moment.what == received, moment.what < received
        else:
            passed = (
                isinstance(moment, AtAccept)
                or (isinstance(moment, OnFirstByte) and received > 0)
                or (isinstance(moment, AtEOF) and self._stream.peer_ended is not None)
            )
        if at_once:
            if not isinstance(moment, AfterSent):
                self._stream.ahead = self._stream.inserted
            self._act(cause)
        elif not passed:
            self._waiting.append((cause, received))

    def lift(self, cause: Cause) -> None:
        """Have a fault act no more; what it kept back goes on."""
        self._waiting = [entry for entry in self._waiting if entry[0] is not cause]
        work = self._works.pop(cause, None)
        if work is not None:
            work.stop()
            self._keeps = False  # another one that does will say so again
            if self._stream.is_open:
                self._stream.record.mark(CLOCK.stamp(), "note", note=f"{cause.effect!r} lifted")
                self._stream.release_soon()

    def close(self) -> None:
        """End all of them with their stream."""
        self._waiting.clear()
        for work in self._works.values():
            work.stop()

    @property
    def is_relieving(self) -> bool:
        """Whether nobody has to wait for what was sent: it is kept back, or will never go out."""
        return self.ended_by is not None or self._keeps

    @property
    def under_way(self) -> int:
        """Bytes of the stream's queue that are only delayed."""
        return max((work.under_way() for work in self._works.values()), default=0)

    # -- what the stream asks

    def readable(self, most: int, peek: Callable[[int], bytes]) -> int:
        """Return how many bytes may be read at most, so that the next moment is met exactly."""
        size = self._stream.record.received.size
        for cause, _ in self._waiting:
            moment = cause.moment
            if isinstance(moment, OnFirstByte):
                most = 1
            elif isinstance(moment, AfterReceived):
                if isinstance(moment.what, int):
                    most = min(most, moment.what - size)
                else:
                    coming = peek(most)
                    end = self._find(moment.what, coming)
                    # More may come behind the look; of nothing, which is EOF, there is no less.
                    most = (len(coming) or most) if end is None else min(most, end - size)
        return most

    def filtered(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return what goes out now of the next bytes; nothing where they have to wait."""
        taken = self._stream.taken
        most = len(data)
        for cause, _ in self._waiting:
            if isinstance(cause.moment, AfterSent) and cause.moment.n > taken:  # else due just now
                most = min(most, cause.moment.n - taken)
        for work in self._works.values():
            most = min(most, work.allow(most))
            if most <= 0:
                self._keep()
                return b""
        self._keeps = False
        if most < len(data) and not self._stream.has_messages:
            data = memoryview(data)[:most]
        for work in self._works.values():
            data = work.change(data)
        return data

    def may_end(self) -> bool:
        """Whether EOF may go out now."""
        may_end = all(work.may_end() for work in self._works.values())
        if not may_end:
            self._keep()
        return may_end

    # -- what the stream tells

    def on_write(self) -> None:
        """Act before something is sent."""
        self._act_where(lambda moment, _: isinstance(moment, BeforeSend))

    def on_queued(self, size: int, *, in_front: bool = False) -> None:
        """Note bytes that are to be sent."""
        for work in self._works.values():
            work.on_queued(size, in_front=in_front)

    def on_lost(self, size: int) -> None:
        """Note bytes that the kernel refused."""
        for work in self._works.values():
            work.on_lost(size)

    def on_end(self) -> None:
        """Note that EOF is to be sent."""
        for work in self._works.values():
            work.on_end()

    def on_taken(self, size: int) -> None:
        """Act on bytes that the kernel has taken."""
        for work in self._works.values():
            work.on_taken(size)
        taken = self._stream.taken

        def is_due(moment: Moment | None, _: int) -> bool:
            # Of a moment before these bytes the faults are acting just now, one after the other.
            return isinstance(moment, AfterSent) and taken - size < moment.n <= taken

        self._act_where(is_due, within=True)

    def on_received(self) -> None:
        """Act on bytes that have come."""
        size = self._stream.record.received.size

        def is_due(moment: Moment | None, start: int) -> bool:
            if isinstance(moment, AfterReceived):
                what = moment.what
                return what <= size if isinstance(what, int) else self._has(what, start)
            return isinstance(moment, OnFirstByte)

        self._act_where(is_due)

    def on_eof(self) -> None:
        """Act on the peer's EOF."""
        self._act_where(lambda moment, _: isinstance(moment, AtEOF))

    # -- inside

    def _find(self, what: bytes, coming: bytes) -> int | None:
        """Return where bytes are next complete, with those that are about to be read."""
        log = self._stream.record.received
        first = max(0, log.size - len(what) + 1)
        at = (log.read(first) + coming).find(what)
        return None if at < 0 else first + at + len(what)

    def _has(self, what: bytes, start: int) -> bool:
        # Reading stopped where they are complete; a message of SOCK_SEQPACKET may have more.
        log = self._stream.record.received
        if not self._stream.has_messages:
            return log.read(max(0, log.size - len(what))) == what
        return what in log.read(max(0, start - len(what) + 1))

    def _act_where(
        self, is_due: Callable[[Moment | None, int], bool], *, within: bool = False
    ) -> None:
        """Have faults act whose moment has come, which may lie within what another has put in."""
        stream = self._stream
        due = [entry for entry in self._waiting if is_due(entry[0].moment, entry[1])]
        behind = stream.queued - (stream.ahead if within else stream.inserted)
        for entry in due:
            if entry in self._waiting:  # one before it may have ended the stream
                self._waiting.remove(entry)
                # Of what those before it have put in a part may have to wait.
                stream.ahead = max(0, stream.queued - behind)
                self._act(entry[0])

    def _act(self, cause: Cause) -> None:
        stream, effect = self._stream, cause.effect
        if not stream.is_open or (stream.is_eof_sent and not _outlives_eof(effect)):
            return  # nothing is left that it could act on: it has met nothing
        if not cause.claim():
            return
        text = words(effect, cause.moment)
        record = stream.record
        where = f"{count(record.sent.size, 'byte')} sent, {record.received.size:,} received"
        record.mark(CLOCK.stamp(), "fault", note=f"{text}: {where}")
        if effect._is_breaking and self.broken_by is None:
            self.broken_by = f"the fault {text}"
        if isinstance(effect, (Reset, Close, HalfClose)):
            self.ended_by = self.ended_by or f"the fault {text}"
        start = STARTS[type(effect)]
        work = start(stream, effect, cause.draw(record.index))
        if work is not None:
            self._works[cause] = work
            if stream.queued and work.allow(1) <= 0:
                self._keeps = True
        stream.relief.advance(stream.relief.level + 1)

    def _keep(self) -> None:
        """Relieve who waits for what was sent: it is a fault now that keeps it back."""
        if not self._keeps:
            self._keeps = True
            self._stream.relief.advance(self._stream.relief.level + 1)


def _outlives_eof(effect: Effect) -> bool:
    """Whether an effect has something to act on when our EOF is out: more than what is sent."""
    return effect._is_on_receiving or isinstance(effect, (Reset, Close))


def words(effect: Effect, moment: Moment | None) -> str:
    """Return ``Reset() at AfterSent(5)``, cut where it is long."""
    return show_value(effect) + ("" if moment is None else f" at {show_value(moment)}")


def _close(stream: Stream, effect: Any, draw: random.Random) -> None:
    stream.drop()
    stream.close()


def _half_close(stream: Stream, effect: Any, draw: random.Random) -> None:
    stream.drop()
    stream.send_eof()


def _inject(stream: Stream, effect: Inject, draw: random.Random) -> None:
    stream.insert(effect.data)


STARTS: dict[type[Effect], Callable[[Stream, Any, random.Random], Work | None]] = {
    Stall: lambda stream, effect, draw: Stalled(stream),
    Close: _close,
    Reset: lambda stream, effect, draw: stream.reset(),
    HalfClose: _half_close,
    StopReading: lambda stream, effect, draw: Unread(stream),
    Slice: lambda stream, effect, draw: Sliced(stream, effect),
    Throttle: lambda stream, effect, draw: Throttled(stream, effect),
    Delay: lambda stream, effect, draw: Delayed(stream, effect),
    Corrupt: Corrupted,
    Inject: _inject,
}
"""How each effect on a stream begins; those that last return what they do from then on."""
