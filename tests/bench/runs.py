"""What a whole test with a server of its own costs, in real runs of pytest."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
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
from pytest_httpserver import HTTPServer

@pytest.fixture
def url():
    with HTTPServer() as server:
        server.expect_request("/").respond_with_data("hello")
        yield server.url_for("/")
"""

LOCALSERVER = """
from pytest_localserver.http import ContentServer

@pytest.fixture
def url():
    server = ContentServer()
    server.start()
    server.serve_content("hello")
    yield server.url
    server.stop()
"""

IDLE = "\ndef test_one(n, url):\n    pass\n"

REQUEST = """
from urllib.request import urlopen

def test_one(n, url):
    with urlopen(url) as response:
        assert response.read() == b"hello"
"""

NEIGHBOURS = (
    ("pytest-httpserver", "unused", HTTPSERVER + IDLE, at_least(500)),
    # Where `stop` catches their server at work it need not wait for its next look, half a second
    # later: this figure is a matter of luck.
    ("pytest-httpserver", "and one request", HTTPSERVER + REQUEST, None),
    ("pytest-localserver", "unused", LOCALSERVER + IDLE, None),
)


def test(quick: bool) -> list[Result]:
    """Run a whole test with a server of its own."""
    many, few, rounds = (200, 2, 2) if quick else (1000, 4, 6)
    neighbours = [row for row in NEIGHBOURS if importlib.util.find_spec(row[0].replace("-", "_"))]
    if len(neighbours) < len(NEIGHBOURS):
        say("    not all neighbours are installed: pip install --group bench")
    empty, unused, ours, *others = in_turns(
        rounds,
        lambda: seconds_per_test(EMPTY, many),
        lambda: seconds_per_test(EMPTY, many, "pytest_sockets.plugin"),
        lambda: seconds_per_test(OURS, many, "pytest_sockets.plugin"),
        *(functools.partial(seconds_per_test, code, few) for _, _, code, _ in neighbours),
        warm_up=False,
    )
    cost = _less(ours, empty)
    what = "whole test with `echo_server` and one exchange, less an empty test"
    rows = [
        Result(
            what,
            cost.show(span),
            f"a server of {name} for each test, {use}",
            _less(theirs, empty).show(span),
            _less(theirs, empty).over(cost),
            hold,
        )
        for (name, use, _, hold), theirs in zip(neighbours, others, strict=True)
    ]
    return [
        *(rows or [Result(what, cost.show(span))]),
        Result(
            "plugin loaded, empty test",
            unused.show(span),
            "empty test without the plugin",
            empty.show(span),
            unused.over(empty),
        ),
    ]


def _less(figures: Spread, empty: Spread) -> Spread:
    # The lowest, and not the same round's: two noisy figures can differ by less than nothing.
    return Spread(tuple(figure - min(empty.values) for figure in figures.values))


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
