"""Host names that stand for several addresses."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from programs import SCRIPTS, program, run


@pytest.fixture
def in_namespace(tmp_path: Path) -> list[str]:
    """A command's beginning that gives it an /etc/hosts of its own."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    hosts = tmp_path / "hosts"
    hosts.write_text("::1 threefold\n127.0.0.1 threefold\n127.0.0.2 threefold\n")
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    unshare = [program("unshare"), "--map-root-user", "--mount", "sh", "-c", script, str(hosts)]
    tried = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine grants no namespace: {tried.stderr.decode().strip()}")
    return unshare


def test_every_address_of_a_name_is_served(in_namespace: list[str]) -> None:
    script = str(SCRIPTS / "threefold.py")
    told = run(*in_namespace, sys.executable, "-W", "error", script)
    assert told == b"stream 3\ndatagram 3\npeer 3\n"
