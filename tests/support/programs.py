"""Real programs as clients: found or skipped with a reason, and never run for longer than LIMIT."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

LIMIT = 60.0
"""Seconds before a program is killed, so that a broken endpoint fails a test, not a run."""

SCRIPTS = Path(__file__).parents[1] / "clients" / "scripts"
PACKAGES = {
    "curl": "curl",
    "nc.openbsd": "netcat-openbsd",
    "node": "nodejs",
    "socat": "socat",
    "unshare": "util-linux",
}
"""The Debian package of each program. Of nc there are several; only OpenBSD's can do AF_UNIX."""

Process: TypeAlias = "subprocess.Popen[bytes]"


def program(name: str) -> str:
    """Return where a program is, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; Debian's package of it is {PACKAGES[name]}")
    return found


def run(*command: str, stdin: bytes = b"") -> bytes:
    """Run a program that ends by itself once its peer has answered and closed."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextmanager
def running(*command: str) -> Iterator[Process]:
    """Run a program between pipes; it has to end, with success, when its input is closed."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    try:
        with process:
            try:
                yield process
                hush(process)
                assert process.stderr is not None
                errors = process.stderr.read().decode()
            except BaseException:
                process.kill()
                raise
    finally:
        killer.cancel()
        killer.join()
    assert process.returncode == 0, errors


def tell(process: Process, data: bytes) -> None:
    """Write to a program's input."""
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def hush(process: Process) -> None:
    """Close a program's input."""
    assert process.stdin is not None
    process.stdin.close()


def heard(process: Process, n: int = -1) -> bytes:
    """Return the next `n` bytes of a program's output; without `n` all that is left."""
    assert process.stdout is not None
    return process.stdout.read(n)


def converse(*command: str, stdin: bytes = b"") -> bytes:
    """Run a program that would end before the answer if its input were closed at once."""
    with running(*command) as process:
        tell(process, stdin)
        return heard(process, len(stdin))


How: TypeAlias = Callable[..., bytes]
Command: TypeAlias = Callable[[Any], list[str]]


def _words(server: Any) -> list[str]:
    return [server.path] if server.family == "unix" else [server.host, str(server.port)]


def _nc(*options: str) -> Command:
    def command(server: Any) -> list[str]:
        unix = ["-U"] if server.family == "unix" else []
        return [program("nc.openbsd"), *options, *unix, *_words(server)]

    return command


def _socat(kind: str, *options: str) -> Command:
    def command(server: Any) -> list[str]:
        unix = server.family == "unix"
        there = f"UNIX-CONNECT:{server.path}" if unix else server.url(kind).replace("://", ":")
        return [program("socat"), *options, "-", there]

    return command


def _node(kind: str) -> Command:
    return lambda server: [program("node"), str(SCRIPTS / "client.js"), kind, *_words(server)]


def _python(kind: str) -> Command:
    return lambda server: [sys.executable, str(SCRIPTS / "client.py"), kind, *_words(server)]


STREAM_CLIENTS: dict[str, tuple[How, Command]] = {
    "nc": (run, _nc("-N")),
    "node": (run, _node("stream")),
    "python": (run, _python("stream")),
    "socat": (run, _socat("TCP", "-t", str(LIMIT))),
}
"""Each sends its input and EOF, and prints what comes back up to EOF."""

DATAGRAM_CLIENTS: dict[str, tuple[How, Command]] = {
    "nc": (converse, _nc("-u", "-q0")),
    "node": (run, _node("datagram")),
    "python": (run, _python("datagram")),
    "socat": (converse, _socat("UDP", "-t0")),
}
"""Each sends its input as one datagram, and prints the one that comes back."""


def ask(clients: dict[str, tuple[How, Command]], name: str, server: Any, question: bytes) -> bytes:
    """Have a program ask a server, and return what it got."""
    how, command = clients[name]
    return how(*command(server), stdin=question)
