from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import pytest_sockets
from fixture_names import FIXTURES
from manual import DOCS, EXAMPLES, blocks, first_column, includes, pages
from pytest_sockets import faults, hookspecs
from pytest_sockets._settings import pytest_addoption
from pytest_sockets._wire.events import Event

REFERENCE = DOCS / "reference"


class Declared:
    """Takes what `pytest_addoption` declares."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.options: list[str] = []

    def getgroup(self, name: str, description: str = "") -> Declared:
        return self

    def addini(self, name: str, *args: object, **options: object) -> None:
        self.keys.append(name)

    def addoption(self, name: str, **options: object) -> None:
        self.options.append(name)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_python_on_a_page_is_included_from_a_file_that_runs(page: Path) -> None:
    text = page.read_text()
    assert blocks(text, "python") == []
    assert blocks(text, "py") == []


def test_every_test_of_the_examples_stands_on_a_page() -> None:
    shown = [include for page in pages() for include in includes(page)]
    missing = [
        f"{path.name}::{name}"
        for path in sorted(EXAMPLES.glob("test_*.py"))
        for name in _tests(path)
        if not any(there == path and f"def {name}(" in source for there, source in shown)
    ]
    assert missing == []


def test_the_fixture_reference_has_exactly_the_fixtures() -> None:
    text = (REFERENCE / "fixtures.md").read_text()
    assert sorted(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == sorted(FIXTURES)


def test_every_public_name_has_an_entry() -> None:
    text = "\n".join(page.read_text() for page in REFERENCE.glob("*.md"))
    entries = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", text, re.MULTILINE)
    hooks = [name for name in vars(hookspecs) if name.startswith("pytest_sockets_")]
    public = {*pytest_sockets.__all__, *faults.__all__, *hooks}
    assert sorted(entries) == sorted(public)


def test_the_settings_reference_has_exactly_the_settings() -> None:
    text = (REFERENCE / "settings.md").read_text()
    declared = Declared()
    pytest_addoption(cast("pytest.Parser", declared))

    assert first_column(text, "## In the ini file") == declared.keys
    listed = first_column(text, "## On the command line")
    assert [option.partition("=")[0] for option in listed] == declared.options


def test_the_event_reference_has_exactly_the_kinds() -> None:
    text = (REFERENCE / "events.md").read_text()
    kinds = re.findall(r"``(\w+)``", (Event.__doc__ or "").partition("`kind`")[2])
    assert first_column(text, "| kind |") == kinds


def test_the_error_reference_has_exactly_the_errors() -> None:
    text = (REFERENCE / "errors.md").read_text()
    ours = [name for name in pytest_sockets.__all__ if name.endswith(("Error", "Timeout"))]
    listed = first_column(text, "| error |")
    assert sorted(set(listed) - {"TypeError", "ValueError", "OSError"} | {"SocketsError"}) == ours


def _tests(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "test_" in node.name:
            yield node.name
