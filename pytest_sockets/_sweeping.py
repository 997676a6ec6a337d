"""What pytest makes of a sweep: a result for each failed run, how far it is, what it left out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from pytest_sockets._endpoints.attempt import Attempt
from pytest_sockets._endpoints.sockets import Sockets
from pytest_sockets._endpoints.spots import Spot
from pytest_sockets._endpoints.sweep import Run, Sweep
from pytest_sockets._engine.clock import CLOCK

PROPERTY = "sockets_sweep"
"""The name under which a report carries what a sweep left out, also from another process."""
REFRESH = 0.1
"""Seconds between two states of the progress line."""
NARROW = 20
"""Columns below which there is no progress line."""


class Subtests(Protocol):
    """What makes a result of its own: the fixture of pytest 9, or of pytest-subtests."""

    def test(self, msg: str) -> AbstractContextManager[object]:
        """Report how the block ends, and go on behind it."""
        ...


class ToldSweep(Sweep):
    """A sweep in a test."""

    def __init__(
        self,
        item: Any,
        sockets: Sockets,
        attempt: Attempt,
        subtests: Subtests | None,
        fails: Callable[[BaseException], bool],
    ) -> None:
        super().__init__(sockets._settings, family=sockets._family)
        self._skip = sockets._skip
        self._is_failure = fails
        self._properties: list[tuple[str, object]] = item.user_properties
        self._attempt = attempt
        self._progress = Progress(item.config)
        self._subtests = subtests
        self._has_alarm = False

    def _begin(self, runs: int, total: int) -> None:
        self._has_alarm = _alarm_is_set()
        if runs < total:
            text = f"{runs:,} of {total:,} runs, spread evenly; most={total} is all"
            self._properties.append((PROPERTY, text))

    def _before(self, number: int, runs: int, spot: Spot) -> None:
        self._progress.show(f"sweep: {number:,} of {runs:,}, {spot.fault}")

    def _fails(self, error: BaseException) -> bool:
        return self._is_failure(error)

    def _tell(self, run: Run, error: BaseException) -> bool:
        __tracebackhide__ = True
        self._progress.erase()
        if self._subtests is None:
            if self._first is None:
                self._attempt.explain_by(error, run.attempt)
            return super()._tell(run, error) and not self._is_late()
        self._attempt.explain_by(error, run.attempt)
        if self._is_late():  # the rest of the test would have no limit either
            raise error
        with self._subtests.test(msg=str(run.spot)):
            raise error
        return True

    def _is_late(self) -> bool:
        # pytest-timeout limits a test once: its failure is one like any other, wherever in a client
        # and its event loop it comes out, and nothing would end the next run if that hangs too.
        return self._has_alarm and not _alarm_is_set()

    def _end(self) -> None:
        self._progress.erase()


def _alarm_is_set() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


class Progress:
    """A line on the terminal, behind what pytest has written there, that leaves no trace.

    It has no colour and no escape sequence: backspaces take it back.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        self._is_on = bool(getattr(terminal, "isatty", False)) and not hasattr(
            config, "workerinput"
        )
        self._width = 0
        self._next = 0.0

    def show(self, text: str) -> None:
        """Show a text, unless the one before is quite new."""
        if not self._is_on or CLOCK.seconds() < self._next:
            return
        self._next = CLOCK.seconds() + REFRESH
        writer = self._config.get_terminal_writer()
        room = writer.fullwidth - writer.width_of_current_line - 1
        if room >= NARROW:
            self._write(text[:room])

    def erase(self) -> None:
        """Take it from the terminal."""
        if self._width:
            self._write("")
            self._next = 0.0

    def _write(self, text: str) -> None:
        covered = text.ljust(self._width)
        with self._uncaptured():
            sys.stdout.write(covered + "\b" * len(covered))
            sys.stdout.flush()
        self._width = len(text)

    @contextmanager
    def _uncaptured(self) -> Generator[None, None, None]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            yield
        else:
            with capture.global_and_fixture_disabled():
                yield


class Summary:
    """Says at the end which sweeps have left something out."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}  # reports of one test repeat it

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note what a sweep has left out."""
        for entry in report.user_properties:
            match entry:
                case [str(name), value] if name == PROPERTY:
                    self._lines[f"{report.nodeid}: {value}"] = None
                case _:  # somebody else's, of whatever shape
                    pass

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say it."""
        if self._lines:
            terminalreporter.write_sep("-", "sweeps that were cut short")
            for line in self._lines:
                terminalreporter.write_line(line)
