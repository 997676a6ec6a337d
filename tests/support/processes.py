"""Snippets in a process of their own, and forked children that report back."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

HANGS = 100.0
"""Seconds after which a process is taken to hang: nothing here needs one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str


def run_python(code: str, *arguments: str, flags: tuple[str, ...] = (), **env: str) -> Ended:
    """Run a snippet in this interpreter's kind, with its flags and more environment."""
    command = [sys.executable, *flags, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **env}, timeout=HANGS
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run_quietly(code: str, *arguments: str, flags: tuple[str, ...] = (), **env: str) -> str:
    """Run a snippet that must succeed without a word on stderr; return what it printed."""
    ended = run_python(code, *arguments, flags=flags, **env)
    assert (ended.code, ended.err) == (0, ""), f"exit code {ended.code}, stderr:\n{ended.err}"
    return ended.out.strip()


@contextmanager
def python(code: str, *arguments: str) -> Generator[subprocess.Popen[str], None, None]:
    """Run a snippet beside the test, with pipes to it; it is killed at the end."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def forked(action: Callable[[], Any]) -> Generator[Any, None, None]:
    """Give what `action` returned in a forked child, which lives until the block is left."""
    ours, theirs = multiprocessing.Pipe()
    with warnings.catch_warnings():
        # Since 3.12 a fork beside threads warns: that they do not hang the child is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        ours.close()
        _report(action, theirs)
    theirs.close()
    try:
        with ours:
            assert ours.poll(HANGS), "the forked child hangs"
            failure, value = ours.recv()
            assert failure is None, f"in the forked child:\n{failure}"
            yield value
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.waitpid(pid, 0)


def in_child(action: Callable[[], Any]) -> Any:
    """Return what `action` returned in a forked child."""
    with forked(action) as value:
        return value


def _report(action: Callable[[], Any], pipe: Any) -> None:
    """Send the result, live until the parent has closed its end, and leave no other way."""
    try:
        try:
            pipe.send((None, action()))
        except BaseException:
            pipe.send((traceback.format_exc(), None))
        pipe.recv()
    except EOFError:
        pass
    finally:
        os._exit(0)
