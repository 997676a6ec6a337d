"""A proxy with a plain socket of the standard library on each of its sides."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_sockets import Connection, Sockets, TCPProxy
from stream_ends import OWN_HOST, PATIENCE, plain_client


@dataclass
class Proxied:
    """Both ends of one proxied connection."""

    client: socket.socket
    server: socket.socket
    proxy: TCPProxy

    @property
    def client_side(self) -> Connection:
        """The proxy's connection with the client."""
        return self.proxy.client.connections[0]

    @property
    def upstream_side(self) -> Connection:
        """The proxy's connection with the real server."""
        return self.proxy.upstream.connections[0]

    @property
    def queued(self) -> tuple[int, int]:
        """Bytes that the proxy holds for the client, and for the server."""
        return self.client_side._stream.queued, self.upstream_side._stream.queued


@contextlib.contextmanager
def listening(family: str = "ipv4") -> Iterator[socket.socket]:
    """Listen with the standard library."""
    if family == "unix":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("")
            listener.listen(4096)
            listener.settimeout(PATIENCE)
            yield listener
        return
    host, number = {"ipv4": ("127.0.0.1", socket.AF_INET), "ipv6": ("::1", socket.AF_INET6)}[family]
    with socket.create_server((host, 0), family=number, backlog=4096) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def accept(listener: socket.socket) -> socket.socket:
    """Accept one connection of it."""
    sock, _ = listener.accept()
    sock.settimeout(PATIENCE)
    return sock


@contextlib.contextmanager
def proxied(sockets: Sockets, family: str = "ipv4") -> Iterator[Proxied]:
    """Connect a client through a proxy to a listener of a family."""
    with listening(family) as listener:
        address = listener.getsockname()
        upstream = os.fsdecode(address) if isinstance(address, bytes) else address
        proxy = sockets.tcp_proxy(upstream, host=OWN_HOST)
        with plain_client(proxy.address) as client, accept(listener) as server:
            proxy.upstream.wait_connections(1)  # the kernel connects before the proxy knows
            yield Proxied(client, server, proxy)


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[tuple[str, int], Callable[[], socket.socket]]]:
    """Give an address that answers no connect, as the queue of its listener is full.

    The function makes room, and returns the connection that comes in then.
    """
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        full.settimeout(PATIENCE)

        def make_room() -> socket.socket:
            accept(full).close()
            return accept(full)

        yield full.getsockname(), make_room


@contextlib.contextmanager
def held_up(proxy: TCPProxy) -> Iterator[None]:
    """Keep the I/O thread from seeing what happens meanwhile, until all of it has."""
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        holding.set()
        go_on.wait(PATIENCE)

    proxy.client._engine.post(hold)
    assert holding.wait(PATIENCE)
    try:
        yield
    finally:
        go_on.set()


def stall(sock: socket.socket, proxy: TCPProxy | None, content: bytes) -> int:
    """Send until neither the kernel nor the proxy takes any more; return how much they took."""
    sock.setblocking(False)
    taken = before = 0
    view = memoryview(content)
    try:
        while True:
            try:
                taken += sock.send(view[taken:])
            except BlockingIOError:
                if taken == before or proxy is None:
                    return taken
                before = taken
                proxy.client._sync()  # what the kernel holds is moved on, as far as it goes
    finally:
        sock.settimeout(PATIENCE)


def open_sockets() -> set[str]:
    """Return what tells apart the sockets that this process has open."""
    found: set[str] = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the folder itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith("socket:")}


def kinds(conn: Connection) -> list[str]:
    """Return what has happened on a connection."""
    return [event.kind for event in conn.transcript]
