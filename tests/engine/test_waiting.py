import itertools
import math
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import pytest

from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.waiting import Latch, Signal, Wait
from threads import eager_threads

PATIENCE = 60.0
"""Seconds that only a lost wake-up takes."""


def block(*needs: tuple[Signal, float], timeout: float = PATIENCE) -> bool:
    wait = Wait(Deadline(timeout), *needs)
    latch = Latch()
    wait.arm(latch.open)
    try:
        return latch.wait(wait.deadline)
    finally:
        wait.disarm(latch.open)


def test_no_wake_up_is_lost_between_many_threads() -> None:
    signal, last = Signal(), 20_000
    turns = threading.Barrier(5)

    def watch(step: int) -> list[float]:
        turns.wait()
        seen: list[float] = []
        for need in range(step, last, step):
            assert block((signal, need)), f"nobody woke the waiter for {need}"
            seen.append(signal.level)
            assert signal.level >= need
        return seen

    with eager_threads(), ThreadPoolExecutor(4) as pool:
        watching = [pool.submit(watch, step) for step in (1, 2, 3, 7)]
        turns.wait()
        for level in range(1, last + 1):
            signal.advance(level)
        for thread in watching:
            seen = thread.result()
            assert seen == sorted(seen)
    assert signal._waiters == []


def _interleaved(outer: Callable[[], None], inner: Callable[[], None], at: int) -> bool:
    """Run `inner` before one line or bytecode of `outer`; `False` when it has fewer."""
    before, passed = sys.gettrace(), 0
    traced = (Signal.advance.__code__, Signal.watch.__code__)

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal passed
        frame.f_trace_opcodes = True
        if event in ("line", "opcode") and frame.f_code in traced:
            passed += 1
            if passed == at:
                inner()  # nothing is traced meanwhile
        return trace

    sys.settrace(trace)
    try:
        outer()
    finally:
        sys.settrace(before)
    return passed >= at


@pytest.mark.parametrize("raiser_first", [True, False])
def test_no_wake_up_is_lost_wherever_two_threads_meet(raiser_first: bool) -> None:
    meetings = 0
    for at in itertools.count(1):
        signal, woken = Signal(), [0]

        def wake(woken: list[int] = woken) -> None:
            woken[0] += 1

        steps = (partial(signal.advance, 1), partial(signal.watch, 1, wake))
        if not _interleaved(*(steps if raiser_first else reversed(steps)), at):
            break
        meetings += 1
        assert woken[0] >= 1, f"lost at step {at}"
    assert meetings > 4


def test_a_waiter_is_woken_when_its_level_is_reached_and_not_before() -> None:
    signal, woken = Signal(), [0, 0]

    def first() -> None:
        woken[0] += 1

    def second() -> None:
        woken[1] += 1

    signal.watch(3, first)
    signal.watch(5, second)
    signal.advance(2)
    assert woken == [0, 0]
    signal.advance(4)
    assert woken == [1, 0]
    signal.advance(4)
    signal.advance(3)
    assert (woken, signal.level) == ([1, 0], 4)
    signal.unwatch(3, first)
    signal.advance(5)
    assert woken == [1, 1]
    signal.unwatch(5, second)
    signal.finish()
    assert woken == [1, 1]


def test_finish_wakes_those_who_wait_and_those_who_come_later() -> None:
    signal = Signal()
    armed = threading.Barrier(4)

    def watch(need: float) -> bool:
        latch = Latch()
        signal.watch(need, latch.open)
        armed.wait()
        woken = latch.wait(Deadline(PATIENCE))
        signal.unwatch(need, latch.open)
        return woken

    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(watch, need) for need in (1, 10**9, math.inf)]
        armed.wait()
        signal.finish()
        assert [thread.result() for thread in waiting] == [True, True, True]
    assert block((signal, math.inf), timeout=0)
    signal.advance(7)
    assert signal.level == math.inf
    assert signal._waiters == []


def test_any_of_several_needs_ends_a_wait() -> None:
    low, high = Signal(), Signal()
    high.advance(5)
    assert block((low, 1), (high, 5), timeout=0)
    assert not block((low, 1), (high, 6), timeout=0)
    assert low._waiters == high._waiters == []


def test_the_same_waiter_can_watch_twice_and_be_forgotten_twice() -> None:
    signal, latch = Signal(), Latch()
    for _ in range(2):
        signal.watch(1, latch.open)
    signal.unwatch(1, latch.open)
    signal.advance(1)
    assert latch.wait(Deadline(0))
    signal.unwatch(1, latch.open)
    with pytest.raises(ValueError, match="not in list"):
        signal.unwatch(1, latch.open)


def test_an_abandoned_signal_is_decided_and_wakes_nobody() -> None:
    signal, latch = Signal(), Latch()
    signal.watch(1, latch.open)
    signal.abandon()
    assert not latch.wait(Deadline(0))
    assert block((signal, math.inf), timeout=0)


def test_a_latch_lets_go_whether_it_is_opened_before_or_while_somebody_waits() -> None:
    early, late = Latch(), Latch()
    early.open()
    early.open()
    assert early.wait(Deadline(0))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(late.wait, Deadline(PATIENCE))
        late.open()
        assert waiting.result()


def test_a_latch_that_nobody_opens_ends_with_its_deadline() -> None:
    assert not Latch().wait(Deadline(0))
    assert not Latch().wait(Deadline(0.01))


def test_a_latch_can_wait_longer_than_the_kernel_can_count() -> None:
    latch = Latch()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(latch.wait, Deadline(1e300))
        latch.open()
        assert waiting.result()


def test_a_latch_waits_on_when_its_deadline_was_paused_meanwhile() -> None:
    latch = Latch()

    class Paused(Deadline):
        """Nothing passes; somebody opens the latch after a while."""

        asked = 0

        def remaining(self) -> float:
            self.asked += 1
            if self.asked == 6:
                latch.open()
            return 0.001

    deadline = Paused(0.001)
    assert latch.wait(deadline)
    assert deadline.asked >= 6
