"""The other sides: clients in a process of their own, and what we are compared with."""

from __future__ import annotations

import asyncio
import functools
import resource
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

PAYLOAD = b"0123456789abcdef" * 4
BLOCK = 256 * 1024


def connected(address: Any, *, small_buffer: bool = False) -> socket.socket:
    """Return a plain connected socket; `create_connection` would add a name look-up."""
    sock = socket.socket(socket.AF_INET)
    if small_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def receive(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size)) or _early_eof()


def _early_eof() -> int:
    msg = "the server closed too early"
    raise ConnectionError(msg)


def exchange(address: Any) -> None:
    """Connect, send 64 bytes, receive them, close."""
    with socket.socket(socket.AF_INET) as sock:
        sock.connect(address)
        sock.sendall(PAYLOAD)
        receive(sock, len(PAYLOAD))


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may have, and return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


# -- clients in a process of their own: they tell through the pipe


def bulk_client(pipe: Pipe, address: Any, total: int) -> None:
    """Send `total` bytes while receiving as many; tell the seconds."""
    block = b"x" * BLOCK
    with connected(address) as sock:

        def send() -> None:
            for _ in range(total // BLOCK):
                sock.sendall(block)

        sender = threading.Thread(target=send)
        start = time.perf_counter()
        sender.start()
        buffer = bytearray(BLOCK)
        left = total
        while left:
            left -= sock.recv_into(buffer, min(left, BLOCK)) or _early_eof()
        pipe.send(time.perf_counter() - start)
        sender.join()


def crowd_client(pipe: Pipe, address: Any, count: int) -> None:
    """Hold `count` connections open at once and use each; tell the seconds and the errors."""
    raise_descriptor_limit()
    served = 0
    errors: list[str] = []
    with ExitStack() as stack:
        start = time.perf_counter()
        try:
            crowd = [stack.enter_context(connected(address)) for _ in range(count)]
            for sock in crowd:
                sock.sendall(PAYLOAD)
            for sock in crowd:
                receive(sock, len(PAYLOAD))
                served += 1
        except OSError as error:
            errors.append(repr(error))
        pipe.send((time.perf_counter() - start, served, errors))
        pipe.poll(None)  # the connections stay until the server has looked at them


def stalled_clients(pipe: Pipe, address: Any, count: int) -> None:
    """Hold `count` connections open and never read."""
    raise_descriptor_limit()
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connected(address, small_buffer=True))
        pipe.send(count)
        pipe.poll(None)


# -- servers to compare with


def bare_echo_process(pipe: Pipe) -> None:
    """Echo with blocking sockets, one connection after the other: the least that can be done."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname())
        while True:
            conn, _ = listener.accept()
            with conn:
                while data := conn.recv(65536):
                    conn.sendall(data)


class EchoProtocol(asyncio.Protocol):
    """The shortest echo that asyncio can do; it records nothing."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class RelayProtocol(asyncio.Protocol):
    """One side of the shortest relay that asyncio can do; it records nothing."""

    def __init__(self, upstream: Any = None) -> None:
        self._upstream = upstream
        self.other: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._upstream is not None:
            transport.pause_reading()
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self.other, there = await loop.create_connection(RelayProtocol, *self._upstream)
        there.other = self.transport
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.write(data)

    def pause_writing(self) -> None:
        assert self.other is not None
        self.other.pause_reading()

    def resume_writing(self) -> None:
        assert self.other is not None
        self.other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class RecordingProtocol(asyncio.Protocol):
    """What many suites write by hand: a server whose test looks at a growing buffer."""

    def __init__(self, record: bytearray) -> None:
        self._record = record

    def data_received(self, data: bytes) -> None:
        self._record += data


@contextmanager
def asyncio_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Run a plain event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def protocol_server(factory: Any) -> Iterator[Any]:
    """Serve an asyncio Protocol in a thread, and yield its address."""
    with asyncio_thread() as loop:

        async def start() -> asyncio.Server:
            return await loop.create_server(factory, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            await asyncio.sleep(0)

        server = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield server.sockets[0].getsockname()
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result()


def relay(upstream: Any) -> AbstractContextManager[Any]:
    """Relay to `upstream` in a thread, without a record, and yield the relay's address."""
    return protocol_server(functools.partial(RelayProtocol, upstream))


class _EchoHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.request.recv(65536):
            self.request.sendall(data)


@contextmanager
def threading_server() -> Iterator[Any]:
    """Echo with `socketserver`, a thread for each connection, and yield its address."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _EchoHandler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address
        finally:
            server.shutdown()
            thread.join()
