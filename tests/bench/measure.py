"""Measuring in turns, and what a row of the table says."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

MIB = 1024 * 1024
PLENTY = 4096 * MIB
"""A record limit that nothing here reaches."""
SPAWN = multiprocessing.get_context("spawn")
"""A forked child would inherit the endpoints, the threads and the memory of this process."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: Spread) -> Spread:
        """Divide round by round: what disturbed a round disturbed both sides of it."""
        pairs = zip(self.values, other.values, strict=True)
        return Spread(tuple(mine / theirs for mine, theirs in pairs))

    def show(self, form: Callable[[float], str]) -> str:
        low, middle, high = (form(v) for v in (min(self.values), self.median, max(self.values)))
        return middle if low == high else f"{middle} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Hold:
    """A number that a figure must stay below, or above."""

    limit: float
    text: str
    at_least: bool = False

    def judge(self, spread: Spread) -> str:
        figure = spread.median
        return "yes" if (figure >= self.limit if self.at_least else figure <= self.limit) else "NO"


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table."""

    what: str
    ours: str
    against: str = "—"
    theirs: str = "—"
    ratio: Spread | None = None
    """What is held where there is no `held`."""
    hold: Hold | None = None
    held: Spread | None = None
    cells: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        judged = self.held if self.held is not None else self.ratio
        holds = "—" if self.hold is None or judged is None else self.hold.judge(judged)
        cells = (
            self.what,
            self.ours,
            self.against,
            self.theirs,
            "—" if self.ratio is None else self.ratio.show(times),
            "—" if self.hold is None else self.hold.text,
            holds,
        )
        object.__setattr__(self, "cells", cells)


HEADINGS = ("what", "pytest-sockets", "against", "its figure", "ratio", "to hold", "holds")


def at_most(limit: float) -> Hold:
    return Hold(limit, f"at most {limit:g}")


def at_least(limit: float) -> Hold:
    return Hold(limit, f"at least {limit:g}", at_least=True)


def times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.2f}"


def span(seconds: float) -> str:
    size, unit = (1, "s") if seconds >= 1 else (1e-3, "ms") if seconds >= 1e-3 else (1e-6, "µs")
    return f"{seconds / size:.3g} {unit}"


def rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e6:.0f} MB/s"


def say(text: str) -> None:
    """Tell how far we are, where it does not disturb the table."""
    print(text, file=sys.stderr, flush=True)


def per_call(action: Callable[[], object], calls: int) -> Callable[[], float]:
    """Return a case that gives the seconds of one of `calls` calls."""

    def case() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            action()
        return (time.perf_counter() - start) / calls

    return case


def in_turns(rounds: int, *cases: Callable[[], float], warm_up: bool = True) -> list[Spread]:
    """Run the cases one after the other, round by round, so that noise meets all of them."""
    columns: list[list[float]] = [[] for _ in cases]
    for number in range(-1 if warm_up else 0, rounds):
        if number >= 0:
            say(f"    round {number + 1} of {rounds}")
        for case, column in zip(cases, columns, strict=True):
            gc.collect()  # nobody pays for another's garbage
            figure = case()
            if number >= 0:
                column.append(figure)
    return [Spread(tuple(column)) for column in columns]


def isolated(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of a module in a fresh process, and return what it returns."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *args).result()


@contextmanager
def helper(main: Callable[..., None], *args: Any) -> Iterator[Pipe]:
    """Run `main(pipe, *args)` in a process of its own, and end it afterwards."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=main, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()  # else our end would not see EOF when the process dies
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join()
