"""What has gone wrong on the endpoints' side: gathered, raised, or made a failure's cause."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from pytest_sockets._engine.clock import CLOCK

if TYPE_CHECKING:
    from pytest_sockets._endpoints.endpoint import Endpoint


def gather(endpoints: Collection[Endpoint], *, since: int = 0) -> list[BaseException]:
    """Return the problems that were not returned from here before, the oldest first.

    Args:
        endpoints: whose.
        since: only those after this time, in nanoseconds.
    """
    found = _look(endpoints)
    for endpoint in endpoints:
        with endpoint._lock:
            found += endpoint._dated_problems[endpoint._told :]
            endpoint._told = len(endpoint._dated_problems)
    return [problem for time, problem in sorted(found, key=_time) if time > since]


def check(endpoints: Collection[Endpoint]) -> None:
    """Raise the oldest problem, told or not, with the others as notes."""
    __tracebackhide__ = True
    found = _look(endpoints)
    for endpoint in endpoints:
        found += endpoint._dated_problems
    if found:
        raise_problems([problem for _, problem in sorted(found, key=_time)])


def raise_problems(problems: Sequence[BaseException]) -> NoReturn:
    """Raise the first problem with the others as notes."""
    __tracebackhide__ = True
    _note_others(problems[0], problems)
    raise problems[0]


def explain(error: BaseException, problems: Sequence[BaseException]) -> None:
    """Make the first problem the root cause of an error, and the others its notes.

    The root of a chain is shown first, and the error keeps its type for `xfail(raises=)`. Where a
    wait has raised a problem already, that one gets the notes.
    """
    if not problems:
        return
    chain = _chain(error)
    raised = [problem for problem in problems if _is_in(problem, chain)]
    shown = (raised or problems)[0]
    _note_others(shown, problems)
    if not raised:
        chain[-1].__cause__ = shown


def _look(endpoints: Iterable[Endpoint]) -> list[tuple[int, BaseException]]:
    """Bring records and problems up to date; that this cannot be done is a problem too."""
    failures: list[tuple[int, BaseException]] = []
    for endpoint in endpoints:
        try:
            endpoint._sync()
        except Exception as error:
            failures.append((CLOCK.stamp(), error))
    return failures


def _time(dated: tuple[int, BaseException]) -> int:
    return dated[0]


def _note_others(shown: BaseException, problems: Sequence[BaseException]) -> None:
    for other in problems:
        note = f"also: {other}"
        if other is not shown and note not in getattr(shown, "__notes__", ()):
            shown.add_note(note)


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
