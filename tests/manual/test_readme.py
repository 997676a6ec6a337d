from __future__ import annotations

from fixture_names import FIXTURES
from inner_runs import Inner, normal
from manual import README, blocks, first_column

TEXT = README.read_text()
COMMANDS = [
    "python -m pip install . pytest-xdist && python -m pytest -n 2 docs/examples\n",
    "python -m pip install tox && python -m tox run\n",
]


def test_the_example_passes(run: Inner) -> None:
    (example,) = blocks(TEXT, "python")
    run(example).assert_outcomes(passed=1)


def test_a_mutated_example_fails_with_the_report_shown(run: Inner) -> None:
    (example,) = blocks(TEXT, "python")
    (report,) = blocks(TEXT, "text")
    mutated = example.replace("GET {key}", "get {key}")
    assert mutated != example

    result = run(mutated)

    result.assert_outcomes(failed=1)
    shown = _without_seed(normal(report)).splitlines()
    printed = _without_seed(normal(result.stdout.str())).splitlines()
    assert [line for line in printed if line in shown] == shown


def test_the_two_set_up_commands_stand_alone() -> None:
    assert blocks(TEXT, "sh") == COMMANDS


def test_the_table_has_exactly_the_fixtures() -> None:
    listed = first_column(TEXT, "| fixture | gives |")
    assert sorted(listed) == sorted(FIXTURES)


def test_it_fits_a_screen() -> None:
    assert len(TEXT.splitlines()) <= 90


def _without_seed(text: str) -> str:
    """The seed comes from the test's id, and with it the length of the rule around the title."""
    lines = text.splitlines(keepends=True)
    return "".join("-- sockets --\n" if "(seed " in line else line for line in lines)
