"""One attempt at one test: which endpoints belong to it, and what went wrong on their side."""

from __future__ import annotations

from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.problems import (
    Problem,
    explain,
    gather,
    look,
    note_earlier,
    note_surplus,
)
from pytest_sockets._engine.clock import CLOCK


class Attempt:
    """From the setup of a test to its teardown; a rerun of the test is another attempt."""

    def __init__(self) -> None:
        self.opened: list[Endpoint] = []
        self._part: tuple[BaseException, Attempt] | None = None
        self._causes: list[tuple[BaseException, BaseException]] = []
        self._started = CLOCK.stamp()
        self._standing = registry.open_endpoints()

    def explain(self, error: BaseException, *, at_the_end: bool) -> None:
        """Show with a failure what has gone wrong on our side.

        Args:
            error: what has failed the test.
            at_the_end: whether it has ended the test, and not its teardown: then what has come and
                was not planned for is told as well.
        """
        cause = explain(error, self.problems(judge=False))
        if cause is not None and cause is not error:
            self._causes.append((error, cause))
        if at_the_end:
            note_surplus(error, self.endpoints())
        for endpoint in self._used():
            if endpoint._problems and endpoint._problems[0].time < self._started:
                note_earlier(error, endpoint)

    def cause_of(self, error: BaseException | None) -> BaseException | None:
        """Return the problem that a failure was explained by."""
        return next((cause for failed, cause in self._causes if failed is error), None)

    def explain_by(self, error: BaseException, part: Attempt) -> None:
        """Have the report of an error show a part of this, such as the run of a sweep."""
        self._part = error, part

    def shown_with(self, error: BaseException | None) -> Attempt:
        """Return what the report of an error shows."""
        if self._part is not None and self._part[0] is error:
            return self._part[1]
        return self

    def endpoints(self) -> list[Endpoint]:
        """Return longer-lived endpoints that something happened on, and those it opened."""
        return self._used() + self.opened

    def _used(self) -> list[Endpoint]:
        return [
            endpoint
            for endpoint in self._standing
            if any(record.last_time > self._started for record in endpoint.records)
        ]

    def problems(self, *, judge: bool) -> list[Problem]:
        """Return what has gone wrong on our side and was not told yet, the oldest first.

        `judge` says that the test is through: what has not happened yet never will.
        """
        # What has come for a longer-lived endpoint shows only once it was read, which one of them
        # has the I/O thread do for all.
        unread = [endpoint for endpoint in self._standing if not endpoint.is_closed][:1]
        return [
            *look(unread, judge=False),
            *gather(self.endpoints(), since=self._started, judge=judge),
        ]
