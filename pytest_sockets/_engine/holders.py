"""Who holds a port, as far as /proc tells (proc(5): net/tcp, net/udp and fd/)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTENING = "0A"


def holder_of(family: int, kind: int, port: int) -> str | None:
    """Name the process that holds a port; `None` when that cannot be known."""
    inodes = set(_inodes(family, kind, port))
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if not inodes.isdisjoint(_sockets(process)):
            return _describe(process)
    return None


def _inodes(family: int, kind: int, port: int) -> Iterator[str]:
    # A dual-stack socket of tcp6 holds the IPv4 port too, so both tables are asked.
    table = "tcp" if kind == socket.SOCK_STREAM else "udp"
    for name in (table, f"{table}6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) != port:
                    continue
                if kind == socket.SOCK_DGRAM or fields[3] == _LISTENING:
                    yield fields[9]


def _sockets(process: Path) -> Iterator[str]:
    with suppress(OSError):  # not ours to look into, or gone meanwhile
        for fd in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile, as the one of this very listing
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd))
                if found:
                    yield found[1]


def _describe(process: Path) -> str:
    if int(process.name) == os.getpid():
        return "this process"
    name = ""
    with suppress(OSError):
        name = (process / "comm").read_text().strip()
    return f"process {process.name} ({name})"
