"""What an effect does to what a stream sends, for as long as it is at work."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING

from pytest_sockets._engine.clock import CLOCK, Deadline
from pytest_sockets._engine.peer import Looks, Sight
from pytest_sockets.faults import Corrupt, Delay, Slice, Throttle

if TYPE_CHECKING:
    from pytest_sockets._engine.engine import Timer
    from pytest_sockets._engine.stream import Stream

TICK = 0.05
"""Seconds whose bytes a throttle sends at once: more often would cost, less often would jerk."""

CHANGED = 64 * 1024
"""Bytes that are changed at once: the kernel may take none of them."""


class Work:
    """Lets everything pass. All methods are called with the endpoint's lock held."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._timer: Timer | None = None

    def allow(self, most: int) -> int:
        """Return how many of the next bytes may go out now; after 0 it calls `release` in time."""
        return most

    def under_way(self) -> int:
        """Return how many of the bytes that are to be sent wait for their time, not for room."""
        return 0

    def may_end(self) -> bool:
        """Whether EOF may go out now; if not, it calls `release` in time."""
        return True

    def change(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return what goes out instead of the next bytes."""
        return data

    def on_queued(self, size: int, *, in_front: bool = False) -> None:
        """Note bytes that are to be sent."""

    def on_taken(self, size: int) -> None:
        """Note bytes that the kernel has taken."""

    def on_lost(self, size: int) -> None:
        """Note bytes, the next ones, that will not be sent after all."""

    def on_end(self) -> None:
        """Note that EOF is to be sent, after what is queued."""

    def stop(self) -> None:
        """Do nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _release_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._stream.timer(Deadline(seconds), self._stream.release)


class Stalled(Work):
    """Lets nothing pass."""

    def allow(self, most: int) -> int:
        return 0

    def may_end(self) -> bool:
        return False


class Unread(Work):
    """Leaves in the kernel what the peer sends."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        stream.stop_reading(self)

    def stop(self) -> None:
        super().stop()
        self._stream.go_on_reading(self)


class Sliced(Work):
    """Lets a piece pass when the peer has read what went out before."""

    def __init__(self, stream: Stream, effect: Slice) -> None:
        super().__init__(stream)
        self._size: float = math.inf if effect.size is None else effect.size
        self._left: float = 0
        self._looks = Looks(stream, may_guess=True)

    def allow(self, most: int) -> int:
        if self._left <= 0:  # a message of SOCK_SEQPACKET cannot be cut, and may be larger
            if self._looks.look() is Sight.UNREAD:  # of a peer that is gone the send will tell
                self._release_in(self._looks.pauses.next())
                return 0
            self._left, self._looks = self._size, Looks(self._stream, may_guess=True)
        return int(min(most, self._left))

    def on_taken(self, size: int) -> None:
        self._left -= size


class Throttled(Work):
    """Lets bytes pass as a bucket fills that holds those of one tick."""

    def __init__(self, stream: Stream, effect: Throttle) -> None:
        super().__init__(stream)
        self._rate = effect.rate
        self._most = max(1.0, effect.rate * TICK)
        self._credit = 0.0
        self._at = CLOCK.patience()

    def allow(self, most: int) -> int:
        now = CLOCK.patience()
        self._credit = min(self._most, self._credit + (now - self._at) * self._rate)
        self._at = now
        wanted = min(float(most), self._most)
        if self._credit < math.floor(wanted):
            self._release_in((math.floor(wanted) - self._credit) / self._rate)
            return 0
        return min(most, int(self._credit))

    def on_taken(self, size: int) -> None:
        self._credit -= size


class Delayed(Work):
    """Lets bytes pass some time after they were to be sent."""

    def __init__(self, stream: Stream, effect: Delay) -> None:
        super().__init__(stream)
        self._seconds = effect.seconds
        self._past = 0  # bytes whose time has come
        self._due: deque[tuple[int, Deadline]] = deque()  # the others, behind them
        self._coming = 0  # bytes of all of those
        self._end: Deadline | None = None
        if stream.queued:
            self.on_queued(stream.queued)

    def allow(self, most: int) -> int:
        if self.under_way() and not self._past:
            self._release_in(self._due[0][1].remaining())
        return min(most, self._past)

    def under_way(self) -> int:
        while self._due and not self._due[0][1].remaining():
            size, _ = self._due.popleft()
            self._coming -= size
            self._past += size
        return self._coming

    def on_end(self) -> None:
        self._end = self._end or Deadline(self._seconds)

    def may_end(self) -> bool:
        self.on_end()
        assert self._end is not None, "it has just been noted"
        if self._end.remaining():
            self._release_in(self._end.remaining())
            return False
        return True

    def on_queued(self, size: int, *, in_front: bool = False) -> None:
        if in_front and self._past:
            self._past += size
            return
        self._coming += size
        if in_front and self._due:
            first, due = self._due[0]
            self._due[0] = first + size, due
        else:
            self._due.append((size, Deadline(self._seconds)))

    def on_taken(self, size: int) -> None:
        past = min(size, self._past)
        self._past -= past
        size -= past
        self._coming -= size
        while size:  # a message of SOCK_SEQPACKET cannot be cut
            first, due = self._due.popleft()
            if first > size:
                self._due.appendleft((first - size, due))
            size -= min(first, size)

    on_lost = on_taken


class Corrupted(Work):
    """Gives the next bytes other values."""

    def __init__(self, stream: Stream, effect: Corrupt, draw: random.Random) -> None:
        super().__init__(stream)
        self._left = effect.size
        # What faults before it have put in at this place goes out as it is, also when it has to
        # wait for another one.
        self._skip = stream.ahead
        self._draw = draw
        # By place: the kernel may take fewer bytes than it was given, and be given them again.
        self._masks: deque[int] = deque()

    def allow(self, most: int) -> int:
        return min(most, CHANGED) if self._left else most

    def change(self, data: bytes | memoryview) -> bytes | memoryview:
        size = min(len(data) - self._skip, self._left)
        if size <= 0:
            return data
        while len(self._masks) < size:
            self._masks.append(self._draw.randrange(1, 256))
        changed = bytearray(data)
        for at, mask in zip(range(self._skip, self._skip + size), self._masks, strict=False):
            changed[at] ^= mask
        return bytes(changed)

    def on_queued(self, size: int, *, in_front: bool = False) -> None:
        if in_front and self._stream.ahead - size < self._skip:
            self._skip += size

    def on_lost(self, size: int) -> None:
        self._skip = max(0, self._skip - size)

    def on_taken(self, size: int) -> None:
        skipped = min(size, self._skip)
        self._skip -= skipped
        size = min(size - skipped, self._left)
        self._left -= size
        for _ in range(size):
            self._masks.popleft()
