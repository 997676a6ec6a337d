"""One attempt at one test: which endpoints belong to it, and what went wrong on their side."""

from __future__ import annotations

from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.problems import Problem, Stage, explain, gather, look, recall
from pytest_sockets._engine.clock import CLOCK


class Attempt:
    """From the setup of a test to its teardown; a rerun of the test is another attempt."""

    def __init__(self) -> None:
        self.opened: list[Endpoint] = []
        self._part: tuple[BaseException, Attempt] | None = None
        self.cause: BaseException | None = None
        """The problem that its failure is explained by."""
        self._started = CLOCK.stamp()
        self._standing = registry.open_endpoints()

    def explain(self, error: BaseException, stage: Stage) -> None:
        """Show with the test's failure what has gone wrong on our side."""
        cause = explain(error, self.problems(stage))
        self.cause = None if cause is error else cause
        for endpoint in self._used():
            if endpoint._problems and endpoint._problems[0].time < self._started:
                recall(error, endpoint)

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

    def problems(self, stage: Stage) -> list[Problem]:
        """Return what has gone wrong on our side and was not told yet, the oldest first."""
        # What has come for a longer-lived endpoint shows only once it was read, which one of them
        # has the I/O thread do for all.
        unread = [endpoint for endpoint in self._standing if not endpoint.is_closed][:1]
        return [
            *look(unread, Stage.RUNNING),
            *gather(self.endpoints(), since=self._started, stage=stage),
        ]
