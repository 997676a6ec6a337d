"""One attempt at one test: which endpoints belong to it, and what went wrong on their side."""

from __future__ import annotations

from pytest_sockets._endpoints import registry
from pytest_sockets._endpoints.endpoint import Endpoint, add_notes
from pytest_sockets._engine.clock import CLOCK


class Attempt:
    """From the setup of a test to its teardown; a rerun of the test is another attempt."""

    def __init__(self) -> None:
        self.opened: list[Endpoint] = []
        self._started = CLOCK.stamp()
        self._standing = registry.open_endpoints()
        self._told: set[int] = set()

    def endpoints(self) -> list[Endpoint]:
        """Return longer-lived endpoints that something happened on, and those it opened."""
        used = [
            endpoint
            for endpoint in self._standing
            if any(record.last_time > self._started for record in endpoint.records)
        ]
        return used + self.opened

    def problems(self) -> list[Exception]:
        """Return what has gone wrong on our side and was not told yet, the oldest first."""
        found: list[tuple[int, Exception]] = []
        for endpoint in self.endpoints():
            try:
                endpoint._sync()
            except Exception as error:
                found.append((CLOCK.stamp(), error))
            found += endpoint._dated_problems
        fresh = [
            (time, problem)
            for time, problem in found
            if time > self._started and id(problem) not in self._told
        ]
        self._told.update(id(problem) for _, problem in fresh)
        return [problem for _, problem in sorted(fresh, key=lambda dated: dated[0])]

    def blame(self, error: BaseException) -> None:
        """Make a problem of ours the root cause of what failed the test.

        The root of a chain is shown first, and the error keeps its type for `xfail(raises=)`.
        """
        explain(error, self.problems())


def explain(error: BaseException, problems: list[Exception]) -> None:
    """Make the oldest problem the root cause of an error, and the others its notes.

    A wait may have raised a problem already: then that one gets the notes.
    """
    if not problems:
        return
    chain = _chain(error)
    raised = [problem for problem in problems if _is_in(problem, chain)]
    shown = (raised or problems)[0]
    add_notes(shown, problems)
    if not raised:
        chain[-1].__cause__ = shown


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what led to it, as far as a traceback shows it."""
    chain = [error]
    while True:
        last = chain[-1]
        deeper = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if deeper is None or _is_in(deeper, chain):
            return chain
        chain.append(deeper)


def _is_in(error: BaseException, chain: list[BaseException]) -> bool:
    return any(error is link for link in chain)  # by identity: an error may have any `==`
