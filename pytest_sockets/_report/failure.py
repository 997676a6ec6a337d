"""What is put into pytest's report of a failure: where it was, what led to it, and the wire."""

from __future__ import annotations

import os
from typing import Any

from pytest_sockets._wire.rendering import show_error

HIDDEN = "All traceback entries are hidden"


def drop_hint(report: Any) -> bool:
    """Take back what pytest says of a problem that no line of the test has raised.

    It has no traceback but ours and pluggy's, which are hidden; there is nothing that --full-trace
    would add. Return whether it said so of the failure itself.
    """
    is_hidden = False
    for traceback, _, _ in getattr(report.longrepr, "chain", ()):
        is_hidden = str(traceback.extraline).startswith(HIDDEN)
        if is_hidden:
            traceback.extraline = None
    return is_hidden


def locate(report: Any, item: Any) -> None:
    """Have an error that we raise ourselves point to the test, and not into pytest or us."""
    crash = getattr(report.longrepr, "reprcrash", None)
    path, line, _ = item.reportinfo()
    if crash is None or line is None:
        return
    crash.path, crash.lineno = str(path), line + 1
    kind = crash.message.partition(":")[0]
    entry = report.longrepr.reprtraceback.reprentries[-1]
    entry.reprfileloc = type(crash)(os.path.relpath(path), line + 1, kind)


def sum_up(report: Any, cause: BaseException) -> None:
    """Have the one line about a failed test begin with its cause: many read no more than that."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = f"{show_error(cause).splitlines()[0]}; then {crash.message}"


def add_section(report: Any, title: str, content: str) -> None:
    """Add a section where it survives."""
    # Sections of the representation survive --show-capture=no and every --tb; a few plugins and
    # --tb=no leave none.
    add = getattr(report.longrepr, "addsection", None)
    if add is not None:
        add(title, content, "-")
    else:
        report.sections.append((title, content))
