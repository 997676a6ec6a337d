import math
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from freezing import FREEZERS
from pytest_sockets._engine import clock
from pytest_sockets._engine.clock import CLOCK, Clock, Deadline, as_seconds
from pytest_sockets._engine.waiting import Latch
from threads import eager_threads


class HandClock(Clock):
    """A clock that a test moves."""

    nanoseconds = 0

    def _now(self) -> int:  # type: ignore[override]  # a method in place of a static one
        return self.nanoseconds

    def move(self, seconds: float) -> None:
        self.nanoseconds += int(seconds * 1e9)


@pytest.fixture
def hand_clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    hand_clock = HandClock()
    monkeypatch.setattr(clock, "CLOCK", hand_clock)
    return hand_clock


def test_stamps_of_many_threads_are_in_one_strict_order() -> None:
    with eager_threads(), ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: [CLOCK.stamp() for _ in range(5_000)], range(8)))
    assert all(run == sorted(run) for run in runs)
    assert len({stamp for run in runs for stamp in run}) == 8 * 5_000


def test_stamps_increase_while_the_clock_stands_still() -> None:
    still = HandClock()
    assert [still.stamp() for _ in range(3)] == [1, 2, 3]
    still.move(1)
    assert [still.stamp() for _ in range(2)] == [1_000_000_000, 1_000_000_001]


@pytest.mark.parametrize("freezer", FREEZERS)
def test_time_goes_on_while_a_test_has_frozen_it(freezer: str) -> None:
    with FREEZERS[freezer]():
        assert time.time() == time.time()  # it is frozen
        before = CLOCK.seconds()
        assert not Latch().wait(Deadline(0.01))
        assert CLOCK.seconds() >= before + 0.01
        first = CLOCK.stamp()
    assert first < CLOCK.stamp()


def test_a_deadline_does_not_come_nearer_while_it_is_paused(hand_clock: HandClock) -> None:
    deadline = Deadline(10)
    hand_clock.move(1)
    assert deadline.remaining() == 9
    hand_clock.pause()
    hand_clock.move(100)
    assert deadline.remaining() == 9
    assert Deadline(3).remaining() == 3
    hand_clock.pause()  # a debugger inside a debugger
    hand_clock.move(100)
    hand_clock.resume()
    hand_clock.resume()
    assert deadline.remaining() == 9
    hand_clock.move(8)
    assert deadline.remaining() == 1
    hand_clock.move(2)
    assert deadline.remaining() == 0


def test_patience_never_jumps_while_another_thread_pauses_and_resumes() -> None:
    clock = Clock()
    done = False

    def flicker() -> None:
        while not done:
            clock.pause()
            clock.resume()

    with eager_threads(), ThreadPoolExecutor() as pool:
        flickering = pool.submit(flicker)
        try:
            readings = [clock.patience() for _ in range(50_000)]
        finally:
            done = True
        flickering.result()
    assert readings == sorted(readings)


def test_a_deadline_says_how_long_it_was() -> None:
    assert [str(Deadline(5.0)), str(Deadline(0.05))] == ["5 s", "0.05 s"]


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5, 1e300])
def test_spans_are_numbers_of_seconds(value: float) -> None:
    seconds = as_seconds(value)
    assert isinstance(seconds, float)
    assert seconds == value


@pytest.mark.parametrize(
    "value",
    [-1, -1e-9, math.inf, -math.inf, math.nan, 10**400, -(10**400)],
    ids=lambda value: str(value)[:6],
)
def test_a_span_below_zero_or_without_end_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=r"^within must be .* 0 or more and finite, not -?\w+"):
        as_seconds(value, name="within")


@pytest.mark.parametrize("value", ["5", b"5", None, True, Decimal(5), [5]], ids=repr)
def test_a_span_of_another_type_is_refused_by_name(value: object) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=rf"^timeout must be a number of seconds, not {kind} "):
        as_seconds(value)
