"""Who holds a port, as far as /proc tells (proc(5): net/tcp, net/udp and fd/)."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_LISTENING = "0A"
_ALL = {"0.0.0.0", "::"}


def holder_of(family: int, kind: int, address: tuple[Any, ...]) -> str | None:
    """Name the process that holds a port of an address; `None` when that cannot be known."""
    inodes = set(_inodes(family, kind, *address[:2]))
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if not inodes.isdisjoint(_sockets(process)):
            return _describe(process)
    return None


def _inodes(family: int, kind: int, host: str, port: int) -> Iterator[str]:
    # A dual-stack socket of tcp6 holds the IPv4 port too, so both tables are asked.
    table = "tcp" if kind == socket.SOCK_STREAM else "udp"
    hosts = set(_forms(family, host))
    for name in (table, f"{table}6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                where, _, number = fields[1].rpartition(":")
                if int(number, 16) != port or (where not in hosts and host not in _ALL):
                    continue
                if kind == socket.SOCK_DGRAM or fields[3] == _LISTENING:
                    yield fields[9]


def _forms(family: int, host: str) -> Iterator[str]:
    """Return how the kernel writes an address, and those that take its ports too."""
    yield _written(family, host)
    yield _written(socket.AF_INET6, "::")
    if family == socket.AF_INET:
        yield _written(family, "0.0.0.0")
        yield _written(socket.AF_INET6, f"::ffff:{host}")


def _written(family: int, host: str) -> str:
    packed = socket.inet_pton(family, host.partition("%")[0])
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


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
