"""The commands for contributors name what there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from inner_runs import VARIABLES
from manual import DOCS, ROOT, blocks, first_column

TEXT = (DOCS / "contributing.md").read_text()
COMMANDS = [*first_column(TEXT, "| command |"), *"".join(blocks(TEXT, "sh")).splitlines()]
SELECTING = [command for command in COMMANDS if "-tests -- " in command]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_paths_exist(command: str) -> None:
    paths = re.findall(r"(?<!\S)(?:docs|tests)/\S+", command)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("command", SELECTING)
def test_what_it_hands_to_pytest_selects_tests(command: str) -> None:
    arguments = shlex.split(command.partition(" -- ")[2])
    collecting = ("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, *collecting, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in VARIABLES},
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10
    assert SELECTING
