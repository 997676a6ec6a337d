"""Where a problem is put in the chain of a failure: where a traceback shows it, and once."""

from __future__ import annotations

from pytest_sockets._endpoints.problems import Problem, explain

FIRST, SECOND = RuntimeError("first"), RuntimeError("second")


def problems() -> list[Problem]:
    """Return two problems, as if just found."""
    for error in (FIRST, SECOND):
        error.__dict__.pop("__notes__", None)
    return [Problem(1, FIRST, None), Problem(2, SECOND, None)]


def test_a_problem_is_the_cause_of_what_began_a_failure() -> None:
    outer, inner = ValueError("outer"), KeyError("inner")
    outer.__context__ = inner
    explain(outer, problems())
    assert (outer.__cause__, inner.__cause__) == (None, FIRST)
    assert FIRST.__notes__ == ["also: second"]


def test_a_problem_is_not_put_behind_an_error_that_is_not_shown() -> None:
    outer, hidden = ValueError("outer"), KeyError("hidden")
    outer.__context__, outer.__suppress_context__ = hidden, True  # as `raise … from None` does
    explain(outer, problems())
    assert (outer.__cause__, hidden.__cause__) == (FIRST, None)


def test_a_chain_that_goes_in_circles_has_an_end_too() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    explain(one, problems())
    assert (one.__cause__, two.__cause__) == (two, FIRST)


def test_an_error_that_is_explained_twice_is_noted_once() -> None:
    error, found = ValueError("error"), problems()
    explain(error, found)
    explain(error, found)
    assert error.__cause__ is FIRST
    assert FIRST.__notes__ == ["also: second"]
