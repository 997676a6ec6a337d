"""Time that nobody else can freeze, and deadlines that a debugger can pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from pytest_sockets._wire.framing import amount_of
from pytest_sockets._wire.rendering import seconds


def _monotonic() -> Callable[[], int]:
    # freezegun replaces `time.monotonic_ns`: wherever a module has bound the name, and as long as
    # time is frozen also for those who import it only then. It leaves this one alone.
    if hasattr(time, "clock_gettime_ns"):
        return partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
    return time.monotonic_ns


class Clock:
    """The process's monotonic clock."""

    _now = staticmethod(_monotonic())

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._paused_at: int | None = None
        self._paused_for = 0

    def stamp(self) -> int:
        """Return the time in nanoseconds, later than every stamp before it.

        Strictly increasing stamps are what puts the events of all endpoints into one order.
        """
        with self._lock:
            now = self._now()
            if now <= self._last:
                now = self._last + 1
            self._last = now
            return now

    def seconds(self) -> float:
        """Return the real monotonic time in seconds."""
        return self._now() * 1e-9

    def patience(self) -> float:
        """Return seconds that stand still while a debugger has the test; deadlines run on them."""
        with self._lock:
            now = self._now() if self._paused_at is None else self._paused_at
            return (now - self._paused_for) * 1e-9

    def _after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def pause(self) -> None:
        """Let no deadline come nearer until `resume`."""
        with self._lock:
            if self._paused_at is None:
                self._paused_at = self._now()

    def resume(self) -> None:
        """Let deadlines run again."""
        with self._lock:
            if self._paused_at is not None:
                self._paused_for += self._now() - self._paused_at
                self._paused_at = None


CLOCK = Clock()
"""One order over all endpoints needs one clock."""


class Deadline:
    """A moment after which nobody waits any longer."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._end = CLOCK.patience() + timeout

    def remaining(self) -> float:
        """Return the seconds left; 0.0 when it has passed."""
        return max(0.0, self._end - CLOCK.patience())

    def __str__(self) -> str:
        return seconds(self.timeout)


class Pauses:
    """The pauses between two looks at what the kernel has no event for: they grow."""

    FIRST, LONGEST = 50e-6, 5e-3
    """Seconds. A peer that waits in recv() has read after 40 µs to 70 µs."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = self.FIRST

    def next(self) -> float:
        """Return the seconds of the next one."""
        pause, self._next = self._next, min(self._next * 2, self.LONGEST)
        return pause


def as_seconds(value: object, *, name: str = "timeout") -> float:
    """Return a span in seconds, or say what is wrong with it."""
    return amount_of(value, name=name, unit="seconds")
