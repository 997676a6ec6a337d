from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

from mutants import Mutation, mutated

REPEAT = int(os.environ.get("PYTEST_SOCKETS_REPEAT", "1"))


@pytest.fixture(params=range(REPEAT), ids=lambda number: f"run{number}", autouse=True)
def repetition(request: pytest.FixtureRequest) -> int:
    """Each test of a well-known project has to hold many times in a row."""
    number: int = request.param
    return number


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients connect to the endpoints, and not to a proxy of the machine's environment."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(autouse=True)
def mutation(request: pytest.FixtureRequest) -> Mutation | None:
    """How the test is changed; `None` where it runs as it is."""
    change: Mutation | None = getattr(request, "param", None)
    return change


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Change the test."""
    change = _mutation(pyfuncitem)
    if change is not None:
        pyfuncitem.obj = mutated(pyfuncitem.obj, change)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the outcome of a changed test round: it must fail, and say what it is told to."""
    report = yield
    change = _mutation(item) if call.when == "call" else None
    if change is None or report.skipped:
        return report
    if report.passed:
        report.outcome = "failed"
        report.longrepr = f"the test holds with {change} too"
    elif re.search(change.says, report.longreprtext):
        report.outcome = "passed"
        report.longrepr = None
        report.sections.clear()
    else:
        report.sections.append(("mutation", f"this failure of {change} says something else"))
    return report


def _mutation(item: pytest.Item) -> Mutation | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("mutation")
