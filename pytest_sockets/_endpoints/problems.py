"""What has gone wrong on the endpoints' side: gathered, raised, or made a failure's cause."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from pytest_sockets._endpoints.faces import drive
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._wire.rendering import shown_text

if TYPE_CHECKING:
    from pytest_sockets._endpoints.endpoint import Endpoint


class Problem(NamedTuple):
    """What went wrong on an endpoint's side, and when."""

    time: int
    """Nanoseconds."""
    error: BaseException
    traceback: TracebackType | None
    """Where it went wrong: each time that it is raised would add to it."""

    def again(self) -> BaseException:
        """Return the error, to be raised."""
        return self.error.with_traceback(self.traceback)


class Checked:
    """A context manager that closes at its end and, when the body did not raise, tells problems."""

    def _checked(self) -> Collection[Endpoint]:
        """Return whose problems it tells."""
        raise NotImplementedError

    def close(self) -> None:
        """Close. Idempotent."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise what has gone wrong on our own side, the oldest first, others as notes."""
        __tracebackhide__ = True
        check(self._checked())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            if exc_type is None and (untold := gather(self._checked())):
                raise_problems(untold)
        finally:
            self.close()


def gather(endpoints: Collection[Endpoint], *, since: int = 0, judge: bool = True) -> list[Problem]:
    """Return the problems that were not returned from here before, the oldest first.

    Args:
        endpoints: whose.
        since: only those after this time, in nanoseconds.
        judge: whether this is the end, so that what has not happened yet never will.
    """
    found = look(endpoints, judge=judge)
    for endpoint in endpoints:
        with endpoint._lock:
            found += endpoint._problems[endpoint._told :]
            endpoint._told = len(endpoint._problems)
    return [problem for problem in sorted(found, key=_time) if problem.time > since]


def check(endpoints: Collection[Endpoint]) -> None:
    """Raise the oldest problem, told or not, with the others as notes: that one is told now."""
    __tracebackhide__ = True
    found = look(endpoints, judge=True)
    for endpoint in endpoints:
        found += endpoint._problems
    if not found:
        return
    found.sort(key=_time)
    for endpoint in endpoints:
        if endpoint._problems and endpoint._problems[0] is found[0]:
            endpoint._told = max(endpoint._told, 1)
    raise_problems(found)


def raise_problems(problems: Sequence[Problem]) -> NoReturn:
    """Raise the first problem with the others as notes."""
    __tracebackhide__ = True
    errors = [problem.error for problem in problems]
    _note_others(errors[0], errors)
    raise problems[0].again()


def explain(error: BaseException, problems: Sequence[Problem]) -> BaseException | None:
    """Make the first problem the root cause of an error, and the others its notes.

    The root of a chain is shown first, and the error keeps its type for `xfail(raises=)`. Where a
    wait has raised a problem already, that one gets the notes. Return the problem that is shown.
    """
    if not problems:
        return None
    chain = _chain(error)
    errors = [problem.error for problem in problems]
    raised = [problem for problem in errors if _is_in(problem, chain)]
    shown = (raised or errors)[0]
    _note_others(shown, errors)
    if not raised:
        chain[-1].__cause__ = problems[0].again()
    return shown


def note_surplus(error: BaseException, endpoints: Collection[Endpoint]) -> None:
    """Note on an error what has come though nothing was planned for it.

    It may have led to the error, or be its consequence: a goodbye on the way out.
    """
    for endpoint in endpoints:
        with endpoint._lock:
            surplus = endpoint._surplus()
        for each in surplus:
            _note(error, f"also: {each}")


def note_earlier(error: BaseException, endpoint: Endpoint) -> None:
    """Note on an error what has gone wrong on an endpoint before the test."""
    problem = endpoint._problems[0].error
    if not _is_in(problem, _chain(error)):
        text = f"{endpoint.name} has had a problem before this test: {shown_text(problem)}"
        _note(error, text)


def _note(error: BaseException, text: str) -> None:
    if text not in getattr(error, "__notes__", ()):
        with suppress(Exception):  # of a class that lets nothing be set, such as a frozen one
            error.add_note(text)


def look(endpoints: Collection[Endpoint], *, judge: bool) -> list[Problem]:
    """Bring records and problems up to date; that this cannot be done is a problem too."""
    failures: dict[Endpoint, Problem] = {}

    def attempt(endpoint: Endpoint, action: Callable[[], object]) -> None:
        if endpoint not in failures:
            try:
                action()
            except Exception as error:
                failures[endpoint] = Problem(CLOCK.stamp(), error, None)

    def quiet(endpoint: Endpoint) -> None:
        attempt(endpoint, lambda: drive(endpoint._quiet(), "check"))

    # A handler that was at work may have called another endpoint, whose handler is at work now.
    handled = sum(endpoint._has_handlers for endpoint in endpoints)
    for _ in range(1 if len(endpoints) == 1 else 1 + handled):
        for endpoint in endpoints:
            quiet(endpoint)
    if judge:
        for endpoint in endpoints:
            attempt(endpoint, endpoint._judge)
            if endpoint._problems:
                # It wakes scripts and handlers, which raise it too: once they have, it is ours, as
                # a traceback belongs to the error and not to who raises it.
                quiet(endpoint)
    return list(failures.values())


def _time(problem: Problem) -> int:
    return problem.time


def _note_others(shown: BaseException, problems: Sequence[BaseException]) -> None:
    for other in problems:
        if other is not shown:
            _note(shown, f"also: {shown_text(other)}")


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
