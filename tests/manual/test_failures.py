"""The reports of failing tests that the manual shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from inner_runs import Inner, normal
from manual import EXAMPLES

FAILURES = sorted((EXAMPLES / "failures").glob("*.py"))


@pytest.mark.parametrize("path", FAILURES, ids=lambda path: path.stem)
def test_the_report_is_the_one_shown(run: Inner, path: Path) -> None:
    run.pytester.makepyfile(test_login=path.read_text())
    result = run.pytester.runpytest_subprocess("-p", "sockets")

    result.assert_outcomes(failed=1)
    shown = _lines(path.with_suffix(".txt").read_text())
    printed = _lines(result.stdout.str())
    start = printed.index(shown[0])
    assert printed[start : start + len(shown)] == shown


def test_there_are_failures() -> None:
    assert [path.stem for path in FAILURES] == ["handler", "script"]


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in normal(text).splitlines()]
