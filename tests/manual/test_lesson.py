from __future__ import annotations

import pytest

from inner_runs import Inner, normal
from manual import EXAMPLES

LESSON = EXAMPLES / "lesson"


def _lesson(run: Inner, client: int, tests: int) -> pytest.RunResult:
    # In a process of its own, as the lesson is followed: in ours `line_client` would be imported
    # once for all of these tests.
    names = {"line_client": f"client_{client}.py", "test_line_client": f"tests_{tests}.py"}
    run.pytester.makepyfile(**{name: (LESSON / path).read_text() for name, path in names.items()})
    return run.pytester.runpytest_subprocess("-p", "sockets")


def test_the_first_test_passes(run: Inner) -> None:
    _lesson(run, 1, 1).assert_outcomes(passed=1)


def test_looking_at_the_wire_fails_with_the_report_shown(run: Inner) -> None:
    result = _lesson(run, 1, 2)

    result.assert_outcomes(failed=1)
    wanted = [line.rstrip() for line in normal((LESSON / "report.txt").read_text()).splitlines()]
    printed = [line.rstrip() for line in normal(result.stdout.str()).splitlines()]
    start = printed.index(wanted[0])
    assert printed[start : start + len(wanted)] == wanted


def test_the_repaired_client_passes(run: Inner) -> None:
    _lesson(run, 2, 2).assert_outcomes(passed=1)


def test_the_test_that_plays_the_server_passes(run: Inner) -> None:
    _lesson(run, 2, 3).assert_outcomes(passed=2)


def test_the_test_that_plays_the_server_ends_where_the_client_is_wrong(run: Inner) -> None:
    result = _lesson(run, 1, 3)

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E  *tcp_server connection 0 received something else"])
