"""One body, run as it is right, and in wrong ways, which must not hold."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import pytest


def expecting(right: Any, wrong: Any, failure: type[BaseException] = AssertionError) -> Any:
    """Run a test twice: `expected` holds, or else `with outcome():` catches the failure."""
    return pytest.mark.parametrize(
        ("expected", "outcome"),
        [
            pytest.param(right, nullcontext, id="right"),
            pytest.param(wrong, partial(pytest.raises, failure), id="mutated"),
        ],
    )


IN_VAIN = 0.5


class Mutation(NamedTuple):
    """A change of a test's source that must make it fail."""

    old: str
    new: str
    says: str
    """A pattern found in the failure's report, causes included."""


def mutations(*changes: tuple[str, str, str]) -> pytest.MarkDecorator:
    """Run a test as it is, and once for each change of its source: it must fail, and say why.

    What fails is the whole call phase, so problems of an endpoint count, as they do for a user.
    `tests/acceptance/conftest.py` runs the changed tests. Each change is the old text, the new
    text, and a pattern for the report. Where that tells of a wait, all waits of the test are for
    IN_VAIN seconds, unless the new text gives its own a `timeout=`.
    """
    in_vain = pytest.mark.sockets(timeout=IN_VAIN)
    wrong = [
        pytest.param(
            Mutation(*change),
            id=f"mutant{number}",
            marks=[in_vain] if "waited" in change[2] and "timeout=" not in change[1] else [],
        )
        for number, change in enumerate(changes, 1)
    ]
    return pytest.mark.parametrize(
        "mutation", [pytest.param(None, id="right"), *wrong], indirect=True
    )


def mutated(test: Callable[..., Any], mutation: Mutation) -> Callable[..., Any]:
    """Return a test with a change in its source; tracebacks still show where it stands."""
    source = inspect.getsource(test)
    (definition,) = ast.parse(source).body
    text = ast.get_source_segment(source, definition) or ""  # without the decorators
    assert mutation.old in text, f"{mutation.old!r} is not in {test.__name__}"
    above = "\n" * (test.__code__.co_firstlineno + definition.lineno - 2)
    code = compile(above + text.replace(mutation.old, mutation.new), inspect.getfile(test), "exec")
    names: dict[str, Any] = {}
    exec(code, test.__globals__, names)
    changed: Callable[..., Any] = names[test.__name__]
    return changed
