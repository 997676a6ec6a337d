"""What one fault makes of each datagram that reaches it."""

from __future__ import annotations

import _socket
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.stream_faults import Cause, words
from pytest_sockets._wire.events import Address
from pytest_sockets._wire.rendering import count, show_address
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Effect,
    Reorder,
    Truncate,
    WrongSource,
)

if TYPE_CHECKING:
    from pytest_sockets._engine.datagram_faults import DatagramFaults
    from pytest_sockets._engine.datagrams import DatagramSocket
    from pytest_sockets._engine.engine import Timer


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A datagram on its way through the faults."""

    part: DatagramSocket
    data: bytes
    to: Address | None
    fds: Sequence[int]
    """Descriptors beside it: the caller's, and copies of them where it is kept back."""
    number: int
    """Its place among all that the endpoint was to send."""
    is_late: bool = False
    """Whether the call that was to send it does not wait for it, and is told of no error."""
    through: _socket.socket | None = None
    """Another socket to send it from."""

    def __str__(self) -> str:
        to = "" if self.to is None else f" to {show_address(self.to)}"
        return f"datagram {self.number} ({count(len(self.data), 'byte')}){to}"


class Stage:
    """One fault at work. All methods are called with the endpoint's lock held."""

    def __init__(self, faults: DatagramFaults, cause: Cause) -> None:
        self.cause = cause
        self.effect: Any = cause.effect  # of the type that the subclass is for
        self.draw: random.Random = cause.draw(None)
        self._faults = faults
        self._looked_at = faults.record.received_chunks
        self._has_come = False

    def pass_on(self, one: Outgoing) -> Sequence[Outgoing]:
        """Return what goes on in the place of a datagram, in order."""
        if not (self._is_due() and self.concerns(one) and self._is_drawn() and self.cause.claim()):
            return (one,)
        note = f"{words(self.cause.effect, self.cause.moment)}: {one}"
        self._faults.record.mark(CLOCK.stamp(), "fault", peer=one.to, note=note)
        return self.change(one)

    def concerns(self, one: Outgoing) -> bool:
        """Whether there is something to do about a datagram."""
        return True

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        """Return what goes on in the place of one that is hit."""
        raise NotImplementedError

    def release(self) -> Sequence[Outgoing]:
        """Keep nothing back any more, and return what was, in order."""
        return ()

    def _is_due(self) -> bool:
        moment, record = self.cause.moment, self._faults.record
        if isinstance(moment, AfterSent):
            return record.sent_chunks >= moment.n
        if isinstance(moment, AfterReceived):
            if isinstance(moment.what, int):
                return record.received_chunks >= moment.what
            while not self._has_come and self._looked_at < record.received_chunks:
                self._has_come = moment.what in record.datagram(self._looked_at).data
                self._looked_at += 1
            return self._has_come
        return True

    def _is_drawn(self) -> bool:
        # random() is below 1, so that a chance of 1 hits each.
        return self.draw.random() < getattr(self.effect, "chance", 1.0)


class Dropped(Stage):
    """Sends nothing."""

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        return ()


class Duplicated(Stage):
    """Sends it twice."""

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        return one, replace(one, is_late=True)


class Reordered(Stage):
    """Keeps one until the next one to the same place has gone."""

    def __init__(self, faults: DatagramFaults, cause: Cause) -> None:
        super().__init__(faults, cause)
        self._kept: list[Outgoing] = []

    def pass_on(self, one: Outgoing) -> Sequence[Outgoing]:
        for kept in self._kept:
            if kept.part is one.part and kept.to == one.to:
                self._kept.remove(kept)
                self._faults.go_on(self, one)
                self._faults.let_go(self, kept)
                return ()
        return super().pass_on(one)

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        self._kept.append(self._faults.keep(one))
        return ()

    def release(self) -> Sequence[Outgoing]:
        kept, self._kept = self._kept, []
        return kept


class Delayed(Stage):
    """Keeps each for some time, in order."""

    def __init__(self, faults: DatagramFaults, cause: Cause) -> None:
        super().__init__(faults, cause)
        self._kept: deque[tuple[Outgoing, Deadline]] = deque()
        self._timer: Timer | None = None

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        self._kept.append((self._faults.keep(one), Deadline(self.effect.seconds)))
        if len(self._kept) == 1:
            self._start()
        return ()

    def release(self) -> Sequence[Outgoing]:
        if self._timer is not None:
            self._timer.cancel()
        kept, self._kept = self._kept, deque()
        return [one for one, _ in kept]

    def _start(self) -> None:
        self._timer = self._faults.engine.timer(self._kept[0][1], self._on_time)

    def _on_time(self) -> None:
        with self._faults.lock:
            while self._kept and not self._kept[0][1].remaining():
                self._faults.let_go(self, self._kept.popleft()[0])
            if self._kept:
                self._start()


class Corrupted(Stage):
    """Gives some bytes other values."""

    def concerns(self, one: Outgoing) -> bool:
        return bool(one.data)

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        data = bytearray(one.data)
        for at in self.draw.sample(range(len(data)), min(self.effect.size, len(data))):
            data[at] ^= self.draw.randrange(1, 256)
        return (replace(one, data=bytes(data)),)


class Truncated(Stage):
    """Sends only the beginning."""

    def concerns(self, one: Outgoing) -> bool:
        return len(one.data) > int(self.effect.size)

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        return (replace(one, data=one.data[: self.effect.size]),)


class Misplaced(Stage):
    """Sends it from another address."""

    def change(self, one: Outgoing) -> Sequence[Outgoing]:
        return (replace(one, through=self._faults.elsewhere(one.part)),)


STAGES: dict[type[Effect], Callable[[DatagramFaults, Cause], Stage]] = {
    Drop: Dropped,
    Duplicate: Duplicated,
    Reorder: Reordered,
    Delay: Delayed,
    Corrupt: Corrupted,
    Truncate: Truncated,
    WrongSource: Misplaced,
}
"""What each effect is at work. `Unreachable` is the kernel's own, see `DatagramSocket.refuse`."""
