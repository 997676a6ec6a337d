"""Real servers from the system's packages, each of a test's own, ready when they are given."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LIMIT = 100.0
"""Seconds for a server to start, and to end: one that takes longer fails a test, not a run."""


def server_program(name: str, package: str) -> str:
    """Return where a server's program is, or skip the test."""
    places = ["/usr/sbin", "/sbin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed; Debian's package of it is {package}")
    return found


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis of our own, and give the path of its AF_UNIX socket."""
    program = server_program("redis-server", "redis-server")
    with _folder() as folder:
        path = f"{folder}/redis"
        command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        with _running(command, b"eady to accept connections"):
            yield path


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL of our own, and give the path of its AF_UNIX socket."""
    initdb, program = (server_program(name, "postgresql") for name in ("initdb", "postgres"))
    with _folder() as folder:
        data = f"{folder}/data"
        user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if user is not None:
            shutil.chown(folder, user)
        init = [initdb, "--pgdata", data, "--username=tester", "--auth=trust", "--no-sync"]
        subprocess.run(init, check=True, capture_output=True, user=user, timeout=LIMIT, cwd=folder)
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off")
        command = [program, "-D", data, *(word for option in options for word in ("-c", option))]
        with _running(command, b"ready to accept connections", user=user, cwd=folder):
            yield f"{folder}/.s.PGSQL.5432"


@contextmanager
def nginx(files: Path) -> Iterator[str]:
    """Run an nginx of our own that serves a folder, and give the path of its AF_UNIX socket."""
    program = server_program("nginx", "nginx-light")
    with _folder() as folder:
        path = f"{folder}/nginx"
        user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
        places = " ".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        Path(f"{folder}/conf").write_text(
            f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log stderr notice;\n"
            f"events {{ }}\nhttp {{ access_log off; {places}\n"
            f"server {{ listen unix:{path}; root {files}; }} }}\n"
        )
        command = [program, "-p", folder, "-c", f"{folder}/conf", "-e", "stderr"]
        with _running(command, b"start worker process "):
            yield path


@contextmanager
def _folder() -> Iterator[str]:
    """Make a folder whose paths are short enough for AF_UNIX."""
    folder = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(
    command: list[str], ready: bytes, *, user: str | None = None, cwd: str | None = None
) -> Iterator[None]:
    """Run a server from when it says that it is ready until it has ended."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, user=user, cwd=cwd
    )
    assert process.stdout is not None
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    try:
        said: list[bytes] = []
        for line in process.stdout:
            said.append(line)
            if ready in line:
                break
        else:
            pytest.fail(f"{command[0]} has ended:\n{b''.join(said).decode()}")
        killer.cancel()  # it may serve for as long as its tests take
        # What it says further on must not fill its pipe.
        reader = threading.Thread(target=process.stdout.read)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(LIMIT)
            finally:
                process.kill()  # nothing where it has ended; else the reader would not
                reader.join()
    finally:
        killer.cancel()
        killer.join()
        process.kill()
        process.wait()
        process.stdout.close()
