"""What a whole test with a server of its own costs, in real runs of pytest."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

from measure import Result, Spread, at_least, in_turns, say, span

CONFTEST = """
import pathlib, time
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtestloop():
    start = time.perf_counter()
    result = yield
    pathlib.Path("seconds").write_text(str(time.perf_counter() - start))
    return result
"""

TALK = """
    with socket.socket() as client:
        client.connect(echo_server.address)
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
"""

EMPTY = "def test_one(n):\n    pass\n"

OURS = f"def test_one(n, echo_server):{TALK}"

HTTPSERVER = """
from urllib.request import urlopen
from pytest_httpserver import HTTPServer

@pytest.fixture
def server():
    with HTTPServer() as server:
        server.expect_request("/").respond_with_data("hello")
        yield server

def test_one(n, server):
    assert urlopen(server.url_for("/")).read() == b"hello"
"""

LOCALSERVER = """
from urllib.request import urlopen
from pytest_localserver.http import ContentServer

@pytest.fixture
def server():
    server = ContentServer()
    server.start()
    server.serve_content("hello")
    yield server
    server.stop()

def test_one(n, server):
    assert urlopen(server.url).read() == b"hello"
"""


def test(quick: bool) -> list[Result]:
    """Run a whole test with a server of its own."""
    many, few, rounds = (200, 2, 2) if quick else (1500, 8, 4)
    cases: dict[str, Callable[[], float]] = {
        "empty": lambda: seconds_per_test(EMPTY, many),
        "unused": lambda: seconds_per_test(EMPTY, many, "pytest_sockets.plugin"),
        "ours": lambda: seconds_per_test(OURS, many, "pytest_sockets.plugin"),
    }
    neighbours = {
        "pytest-httpserver": ("pytest_httpserver", HTTPSERVER),
        "pytest-localserver": ("pytest_localserver", LOCALSERVER),
    }
    for name, (module, code) in neighbours.items():
        if importlib.util.find_spec(module) is None:
            say(f"    {name} is not installed: pip install --group bench")
        else:
            cases[name] = lambda code=code: seconds_per_test(code, few)  # type: ignore[misc]
    found = dict(zip(cases, in_turns(rounds, *cases.values(), warm_up=False), strict=True))
    empty, unused, ours = found.pop("empty"), found.pop("unused"), found.pop("ours")
    cost = _less(ours, empty)
    rows = [
        Result(
            "whole test with `echo_server`, less an empty test",
            cost.show(span),
            f"{name}, started and stopped for each test",
            _less(theirs, empty).show(span),
            _less(theirs, empty).over(cost),
            at_least(500) if name == "pytest-httpserver" else None,
        )
        for name, theirs in found.items()
    ]
    rows = rows or [Result("whole test with `echo_server`, less an empty test", cost.show(span))]
    return [
        *rows,
        Result(
            "plugin installed, test without endpoints, less an empty test",
            _less(unused, empty).show(span),
            "empty test without the plugin",
            empty.show(span),
            _less(unused, empty).over(empty),
        ),
    ]


def _less(figures: Spread, empty: Spread) -> Spread:
    pairs = zip(figures.values, empty.values, strict=True)
    return Spread(tuple(figure - nothing for figure, nothing in pairs))


def seconds_per_test(code: str, count: int, *plugins: str) -> float:
    """Run pytest on `count` tests, and return what one took in its run loop."""
    header = f"""
        import socket
        import pytest

        def pytest_generate_tests(metafunc):
            metafunc.parametrize("n", range({count}))
        """
    with tempfile.TemporaryDirectory(prefix="pytest-sockets-bench-") as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_it.py").write_text(textwrap.dedent(header) + code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        for plugin in plugins:
            command += ["-p", plugin]
        done = subprocess.run(
            command,
            cwd=folder,
            # Only the plugins under test, whatever else is installed.
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or f"{count} passed" not in done.stdout:
            msg = f"pytest failed:\n{done.stdout}{done.stderr}"
            raise RuntimeError(msg)
        return float((folder / "seconds").read_text()) / count
