"""Runs of pytest inside a test: with this plugin, and of others only those that a test names."""

from __future__ import annotations

import gc
import importlib.util
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

WORKERS = {"plain": (), "two workers": ("-p", "xdist", "-n", "2")}
VARIABLES = (
    "BUILD_NUMBER",
    "CI",
    "FORCE_COLOR",
    "NO_COLOR",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "PYTEST_SOCKETS_TIMEOUT_FACTOR",
    "PYTEST_XDIST_WORKER",
    "PYTEST_XDIST_WORKER_COUNT",
)
"""What would reach an inner run from the outer one, and change what it does or prints."""


@dataclass(frozen=True)
class Inner:
    """Runs pytest on a test file, in this process or in one of its own."""

    pytester: pytest.Pytester
    workers: Sequence[str] = ()

    def __call__(
        self,
        source: str,
        *args: str,
        load: Sequence[str] = ("-p", "sockets"),
        plugins: Sequence[str] = (),
        conftest: str = "",
        ini: str = "",
        apart: bool = False,
        stdin: bytes | None = None,
        through: Sequence[str] = (),
    ) -> pytest.RunResult:
        """Write the files, run pytest on them, and return what it printed.

        Args:
            source: the test file, `test_it.py`.
            args: further arguments.
            load: the arguments that load this plugin.
            plugins: other plugins; by module where the entry point is named as one of Python's.
            conftest: the conftest.py.
            ini: lines of the section `[pytest]`.
            apart: whether in a process of its own.
            stdin: what that process reads.
            through: the command that starts that process.
        """
        files = {"test_it": source, "conftest": conftest}
        self.pytester.makepyfile(**files)
        self.pytester.makeini(f"[pytest]\n{ini}")
        named = [part for plugin in plugins for part in ("-p", plugin)]
        everything = [*load, *named, *self.workers, *args]
        if apart or through or stdin is not None:
            command = (*through, *self.pytester._getpytestargs(), *everything)
            return self.pytester.run(*command, stdin=stdin or b"")
        # At its end pytest 8.4 has all garbage collected five times, looking at each object of the
        # outer run too: that took seconds where this had thousands of tests behind it.
        gc.freeze()
        try:
            return self.pytester.runpytest_inprocess(*everything)
        finally:
            gc.unfreeze()


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the outer run's surroundings from the inner ones."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "80")


def needs(module: str) -> None:
    """Skip where a plugin or library is not installed.

    It must not be imported here: pytest warns of a plugin that it finds imported already.
    """
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def normal(text: str) -> str:
    """Return a report with everything that differs from run to run replaced."""
    text = re.sub(r"(127\.0\.0\.1|\[::1\]):\d+", r"\1:PORT", text)
    text = re.sub(r"\+\d+\.\d{6}", "+TIME", text)
    text = re.sub(r"[^\s']*/ps-\w{8}/s\b", "/PATH", text)
    text = re.sub(r"0x[0-9a-f]{8,}", "0xADDRESS", text)
    return re.sub(r"^\[gw\d+\] .*\n", "", text, flags=re.MULTILINE)


def reports(result: pytest.RunResult) -> dict[str, str]:
    """Return the report of each failed test and each error by its title, made normal."""
    return blocks(normal(result.stdout.str()))


def blocks(text: str) -> dict[str, str]:
    """Return the parts of a text by the titles between underscores above them."""
    found: dict[str, str] = {}
    title = None
    for line in text.splitlines():
        if header := re.fullmatch(r"_{2,} (\S.*\S) _{2,}", line):
            title = header[1]
            found[title] = ""
        elif re.fullmatch(r"={2,} .+ ={2,}", line):
            title = None
        elif title is not None:
            found[title] += line + "\n"
    return found
