"""Waiting, once, for blocking and awaitable callers.

A verb is a generator that looks at the record, yields something to wait for, and is told whether it
came (`True`) or the deadline passed (`False`). It runs, and consumes, in its caller's thread, so a
cancelled caller loses nothing. Two shells drive it: see `shells`.
"""

from __future__ import annotations

import _thread
import math
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias, TypeVar

from pytest_sockets._engine.clock import Deadline

R = TypeVar("R")
Wake: TypeAlias = Callable[[], None]


class Waitable(Protocol):
    """Something that wakes a waiter."""

    deadline: Deadline

    def arm(self, wake: Wake) -> None:
        """Have `wake` called once it has come, at once where it already has."""
        ...

    def disarm(self, wake: Wake) -> None:
        """Forget `wake`."""
        ...


Steps: TypeAlias = Generator[Waitable, bool, R]


class Signal:
    """A number that only grows, and those who wait until it is large enough.

    The side that raises it compares numbers and nothing else (0.5 µs when nobody waits). No lock:
    `advance` writes the level before it reads the waiters, `watch` adds a waiter before it reads
    the level, so one of the two sees the other.
    """

    __slots__ = ("_waiters", "level")

    def __init__(self) -> None:
        self.level: float = 0
        self._waiters: list[tuple[float, Wake]] = []

    def advance(self, level: float) -> None:
        """Raise the level, and wake who waited for it."""
        if level > self.level:
            self.level = level
            if self._waiters:
                for need, wake in tuple(self._waiters):
                    if need <= level:
                        wake()

    def finish(self) -> None:
        """Wake everybody, now and from now on: what they wait for has been decided."""
        self.level = math.inf
        for _, wake in tuple(self._waiters):
            wake()

    def abandon(self) -> None:
        """Decide what is waited for in a forked child, where the waiters are the parent's."""
        self._waiters.clear()
        self.level = math.inf

    def watch(self, need: float, wake: Wake) -> None:
        """Call `wake`, perhaps more than once, when the level reaches `need`."""
        self._waiters.append((need, wake))
        if need <= self.level:
            wake()

    def unwatch(self, need: float, wake: Wake) -> None:
        """Forget a waiter."""
        self._waiters.remove((need, wake))


class Wait:
    """Wait until any of several signals is high enough."""

    __slots__ = ("_needs", "deadline")

    def __init__(self, deadline: Deadline, *needs: tuple[Signal, float]) -> None:
        self.deadline = deadline
        self._needs = needs

    def arm(self, wake: Wake) -> None:
        for signal, need in self._needs:
            signal.watch(need, wake)

    def disarm(self, wake: Wake) -> None:
        for signal, need in self._needs:
            signal.unwatch(need, wake)


class Latch:
    """A lock that starts taken and is opened once.

    `Lock.acquire(timeout=)` counts in C: it keeps time under a frozen clock, where
    `Condition.wait_for` and `queue.Queue.get` can hang.
    """

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self.is_open = False

    def open(self) -> None:
        """Let the waiter go; opening twice does nothing."""
        self.is_open = True
        try:
            self._lock.release()
        except RuntimeError:  # open already
            return

    def wait(self, deadline: Deadline) -> bool:
        """Block until opened; `False` when the deadline came first."""
        while not self._lock.acquire(timeout=min(deadline.remaining(), _thread.TIMEOUT_MAX)):
            if not deadline.remaining():  # else it was paused meanwhile
                return False
        return True
