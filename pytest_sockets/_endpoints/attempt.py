"""One attempt at one test: which endpoints belong to it, and what went wrong on their side."""

from __future__ import annotations

from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.endpoint import Endpoint
from pytest_sockets._endpoints.problems import Problem, gather, look
from pytest_sockets._engine.clock import CLOCK


class Attempt:
    """From the setup of a test to its teardown; a rerun of the test is another attempt."""

    def __init__(self) -> None:
        self.opened: list[Endpoint] = []
        self._part: tuple[BaseException, Attempt] | None = None
        self._started = CLOCK.stamp()
        self._standing = registry.open_endpoints()

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
        used = [
            endpoint
            for endpoint in self._standing
            if any(record.last_time > self._started for record in endpoint.records)
        ]
        return used + self.opened

    def problems(self, *, judge: bool = False) -> list[Problem]:
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
