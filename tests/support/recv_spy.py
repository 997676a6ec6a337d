"""A plain peer that writes down what each of its reads returned."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from processes import python
from stream_ends import plain_client

MOST = 65536
"""More than is ever sent at once: one read takes all there is."""

CLIENT = f"""
import json, socket, sys
for line in sys.stdin:
    family, address = json.loads(line)
    reads = []
    with socket.socket(family) as sock:
        sock.connect(address if isinstance(address, str) else tuple(address))
        while data := sock.recv({MOST}):
            reads.append(data.hex())
    print(json.dumps(reads), flush=True)
"""


class Spy:
    """Reads a plain socket to its EOF in a thread of its own."""

    def __init__(self, sock: socket.socket) -> None:
        self._reads: list[bytes] = []
        self._socket = sock
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._reads.extend(iter(lambda: self._socket.recv(MOST), b""))

    def reads(self) -> list[bytes]:
        """Wait for EOF, and return what each read gave."""
        self._thread.join()
        return self._reads


@contextmanager
def spying(address: Any) -> Generator[Spy, None, None]:
    """Connect a spy of this process."""
    with plain_client(address) as sock:
        yield Spy(sock)


class OtherProcess:
    """Spies in another process, one after the other."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def connect(self, address: Any) -> None:
        """Have it connect, and read to EOF."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if family == socket.AF_INET and ":" in address[0]:
            family = socket.AF_INET6
        self._process.stdin.write(json.dumps([int(family), address]) + "\n")
        self._process.stdin.flush()

    def reads(self) -> list[bytes]:
        """Wait for EOF, and return what each read gave."""
        return [bytes.fromhex(data) for data in json.loads(self._process.stdout.readline())]


@contextmanager
def other_process() -> Generator[OtherProcess, None, None]:
    """Run a process of spies."""
    with python(CLIENT) as process:
        yield OtherProcess(process)
