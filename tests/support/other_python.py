"""Another Python interpreter with the project installed, made once for a whole run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINORS = range(11, 15)


def another_interpreter(basetemp: Path) -> Path:
    """Return the Python of an environment of another version that has this project and xdist.

    Args:
        basetemp: a folder that all workers of a run share.
    """
    cache = basetemp / "other-python"
    cache.mkdir(exist_ok=True)
    done, failed = cache / "done", cache / "failed"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it when a worker dies
        if not done.exists() and not failed.exists():
            try:
                _make(cache / "env")
            except Unavailable as error:
                failed.write_text(str(error))
            else:
                done.touch()
    if failed.exists():
        pytest.skip(failed.read_text())
    return cache / "env" / "bin" / "python"


class Unavailable(Exception):
    """There is none, in a sentence."""


def _make(env: Path) -> None:
    base = next(_interpreters(), None)
    if base is None:
        raise Unavailable("there is no other Python interpreter on PATH")
    pip = [base, "-m", "pip", "--python", env, "install", "-q", "--retries=1"]
    for command in ([base, "-m", "venv", "--without-pip", env], [*pip, ROOT, "pytest-xdist"]):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Unavailable(f"no environment of {base} with the project: {last}") from None


def _interpreters() -> Iterator[str]:
    """Yield interpreters of other versions that really run: a pyenv shim may stand for none."""
    for minor in MINORS:
        if minor == sys.version_info.minor:
            continue
        name = f"python3.{minor}"
        found = shutil.which(name)
        candidates = [found] if found else []
        if found and "shims" in found:
            candidates += sorted(map(str, Path(found).parents[1].glob(f"versions/*/bin/{name}")))
        for candidate in candidates:
            question = [candidate, "-c", "import sys; print(sys.version_info.minor, sys.prefix)"]
            answer = subprocess.run(question, capture_output=True, text=True, check=False)
            if not answer.returncode and answer.stdout.startswith(f"{minor} "):
                yield os.fspath(candidate)
