"""A recorded `Connection` of every kind, with a plain socket of the standard library at its end."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pytest_sockets import Connection, Sockets, StreamServer

PATIENCE = 60.0
"""Seconds before a plain socket gives up, so that a broken endpoint fails a test, not a run."""
OWN_HOST = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""A loopback address where no other process opens a port that a test has just closed."""
FOREVER = 3600.0
"""For verbs that have to end by themselves: one that waits instead meets pytest-timeout."""
Verb = Callable[..., Any]

CONSUMING: dict[str, tuple[Verb, bytes]] = {
    "recv": (lambda conn, **how: conn.recv(1, **how), b"a"),
    "recv_exactly": (lambda conn, **how: conn.recv_exactly(2, **how), b"bc"),
    "recv_line": (lambda conn, **how: conn.recv_line(**how), b"one\n"),
    "recv_until": (lambda conn, **how: conn.recv_until(b"\r\n", **how), b"two\n\r\n"),
    "recv_prefixed": (lambda conn, **how: b"\0\3" + conn.recv_prefixed(">H", **how), b"\0\3xyz"),
    "expect": (lambda conn, **how: conn.expect(b"OK\n", **how), b"OK\n"),
    "expect_until": (
        lambda conn, **how: conn.expect(re.compile(rb"\d+;"), until=b";", **how)[0],
        b"123;",
    ),
    "expect_size": (lambda conn, **how: conn.expect(re.compile(rb"\d+"), until=2, **how)[0], b"45"),
    "recv_to_eof": (lambda conn, **how: conn.recv_to_eof(**how), b"the\nrest;"),
}
"""Each consuming verb, and the bytes that satisfy it."""


class Interrupted:
    """An endpoint's lock, behind whose first release by this thread something happens."""

    def __init__(self, lock: Any, action: Callable[[], object]) -> None:
        self._lock = lock
        self._action: Callable[[], object] | None = action
        self._caller = threading.get_ident()

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.__exit__(None, None, None)
        if threading.get_ident() == self._caller and self._action is not None:
            action, self._action = self._action, None
            action()


class Background(ThreadPoolExecutor):
    """Threads that are waited for, except by a test that has failed: its endpoints free them."""

    def __init__(self, threads: int = 8) -> None:
        super().__init__(threads)

    def __exit__(self, exc_type: object, *exc_info: object) -> None:
        """Wait for the threads, or leave them to the end of their endpoints."""
        self.shutdown(wait=exc_type is None)


@dataclass
class Ends:
    """Both ends of one stream."""

    conn: Connection
    peer: socket.socket
    is_tcp: bool

    def reset_by_peer(self) -> None:
        """Have the peer end with a reset, as its family does it."""
        if self.is_tcp:
            abort(self.peer)
        else:  # AF_UNIX has no RST: closing with unread bytes is what the other end sees as one
            self.conn.send(b"never read")
            self.peer.close()


def family_of(address: Any) -> int:
    """Return the family of an address as this package hands it out."""
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def plain_client(address: Any) -> socket.socket:
    """Connect with the standard library."""
    sock = socket.socket(family_of(address))
    sock.settimeout(PATIENCE)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def abort(sock: socket.socket) -> None:
    """Close with RST (socket(7): SO_LINGER of 0 seconds)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def early_client(server: StreamServer, data: bytes) -> socket.socket:
    """Connect and send before the server accepts, and so before any clock of it runs.

    A reset right after the accept would hit these calls, too.
    """
    with server._lock:
        client = plain_client(server.address)
        client.sendall(data)
        return client


def forget(armed: threading.Semaphore) -> None:
    """Have the next release tell of a wait that begins after this."""
    while armed.acquire(blocking=False):
        pass


def read_to_eof(sock: socket.socket) -> bytes:
    """Read with the standard library until the other end has sent EOF."""
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


@contextlib.contextmanager
def _accepted(sockets: Sockets, **options: Any) -> Iterator[tuple[Connection, socket.socket]]:
    server = sockets.stream_server(**options)
    with plain_client(server.address) as peer:
        yield server.accept(), peer


@contextlib.contextmanager
def _abstract(sockets: Sockets) -> Iterator[tuple[Connection, socket.socket]]:
    server = sockets.unix_server(abstract=True)
    with plain_client(server.address) as peer:
        yield server.accept(), peer


@contextlib.contextmanager
def _opened(
    sockets: Sockets, family: int, address: Any
) -> Iterator[tuple[Connection, socket.socket]]:
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(PATIENCE)
        conn = sockets.connect(listener.getsockname())
        peer, _ = listener.accept()
    with peer:
        peer.settimeout(PATIENCE)
        yield conn, peer


@contextlib.contextmanager
def _opened_path(sockets: Sockets) -> Iterator[tuple[Connection, socket.socket]]:
    with tempfile.TemporaryDirectory(prefix="ends-", dir="/tmp") as folder:
        with _opened(sockets, socket.AF_UNIX, f"{folder}/s") as ends:
            yield ends


@contextlib.contextmanager
def _pair(pair: Any) -> Iterator[tuple[Connection, socket.socket]]:
    pair.socket.settimeout(PATIENCE)
    yield pair.peer, pair.socket


Opener = Callable[[Sockets], contextlib.AbstractContextManager[tuple[Connection, socket.socket]]]

STREAMS: dict[str, tuple[bool, Opener]] = {
    "accepted-ipv4": (True, lambda sockets: _accepted(sockets, family="ipv4")),
    "accepted-ipv6": (True, lambda sockets: _accepted(sockets, family="ipv6")),
    "accepted-path": (False, lambda sockets: _accepted(sockets, family="unix")),
    "accepted-abstract": (False, _abstract),
    "client-ipv4": (True, lambda sockets: _opened(sockets, socket.AF_INET, ("127.0.0.1", 0))),
    "client-ipv6": (True, lambda sockets: _opened(sockets, socket.AF_INET6, ("::1", 0))),
    "client-path": (False, _opened_path),
    "client-abstract": (False, lambda sockets: _opened(sockets, socket.AF_UNIX, "")),
    "pair-tcp": (True, lambda sockets: _pair(sockets.tcp_socket_pair())),
    "pair-unix": (False, lambda sockets: _pair(sockets.unix_socket_pair())),
}
"""Every kind of stream: the side that we record, and what carries it."""


@contextlib.contextmanager
def open_ends(sockets: Sockets, kind: str) -> Iterator[Ends]:
    """Open both ends of one kind of stream."""
    is_tcp, opener = STREAMS[kind]
    with opener(sockets) as (conn, peer):
        yield Ends(conn, peer, is_tcp)
