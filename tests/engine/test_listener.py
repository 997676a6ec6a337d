import os
import random
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from processes import run_quietly
from pytest_sockets import Settings, StreamServer, TCPServer
from pytest_sockets._endpoints.single import open_connection
from pytest_sockets._engine.connecting import Connector
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.selector import READ, WRITE
from stream_ends import OWN_HOST, PATIENCE, abort, plain_client
from threads import eager_threads

STRESS = int(os.environ.get("PYTEST_SOCKETS_STRESS", "4000"))
"""Servers started and stopped; 100,000 take some minutes."""
SERVING, CONNECTING = 4, 3
PATIENT = Settings(timeout=PATIENCE)


class Watched(TCPServer):
    """A server that looks at each connection handed to it."""

    def __init__(self) -> None:
        self.late = self.misplaced = 0
        super().__init__(host=OWN_HOST)  # a port given up is taken by no other process meanwhile

    def _on_accept(self, sock: Any, address: Any) -> None:
        self.late += self._closed
        self.misplaced += sock.getsockname() != self.address
        super()._on_accept(sock, address)


class Stress:
    """Servers that start and stop, and clients that connect at any moment of it."""

    def __init__(self, total: int) -> None:
        self.each = total // SERVING
        self.addresses: list[tuple[str, int]] = [(OWN_HOST, 1)] * SERVING
        self.done = False
        self.late = self.misplaced = self.accepted = self.identified = 0
        self.problems: list[Exception] = []
        self.counting = threading.Lock()

    def serve(self, slot: int) -> None:
        turns = random.Random(slot)
        for _ in range(self.each):
            server = Watched()
            self.addresses[slot] = server.address
            if turns.random() < 0.5:
                server._sync()
            server.close()
            told = [conn.received for conn in server.connections]
            with self.counting:
                self.late += server.late
                self.accepted += len(told)
                self.identified += sum(map(bool, told))
                port = struct.pack("!H", server.port)
                self.misplaced += server.misplaced + sum(tag not in (b"", port) for tag in told)
                self.problems += server.problems

    def connect(self, seed: int) -> None:
        turns = random.Random(seed)
        while not self.done:
            address = turns.choice(self.addresses)
            client = socket.socket()
            client.settimeout(PATIENCE)
            try:
                client.connect(address)
                client.send(struct.pack("!H", address[1]))
                client.recv(1)  # waits for the stop
            except ConnectionError:  # it had stopped before, or stops now
                pass
            abort(client)  # leaves no TIME_WAIT behind

    def run(self) -> None:
        with ThreadPoolExecutor(SERVING + CONNECTING) as pool, eager_threads():
            connecting = [pool.submit(self.connect, seed) for seed in range(CONNECTING)]
            try:
                for serving in [pool.submit(self.serve, slot) for slot in range(SERVING)]:
                    serving.result()
            finally:
                self.done = True
            for thread in connecting:
                thread.result()


@pytest.mark.timeout(1800)
def test_no_connection_is_handed_over_after_the_stop_or_to_another_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stress = Stress(STRESS)
    stress.run()
    print(f"{STRESS} servers, {stress.accepted} connections, {stress.identified} with their tag")
    assert (stress.late, stress.misplaced, stress.problems, caplog.records) == (0, 0, [], [])
    assert stress.accepted > 0
    assert stress.identified > 0


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "unix"])
@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
def test_all_who_were_queued_are_taken(family: str, closing: bool) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(StreamServer(family=family, settings=PATIENT))
        with server._lock:  # nobody accepts meanwhile
            for number in range(300):
                client = stack.enter_context(plain_client(server.address))
                client.sendall(struct.pack("!H", number))
            if closing:
                server.close()
        assert [conn.received for conn in server.connections] == [
            struct.pack("!H", number) for number in range(300)
        ]


class Unwilling(TCPServer):
    """A server that fails before it has taken a connection in."""

    def _admit(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("not today")


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
def test_a_client_that_cannot_be_handed_over_is_let_go(closing: bool) -> None:
    server = Unwilling(settings=PATIENT)
    with server._lock:  # nobody accepts meanwhile
        client = plain_client(server.address)
        if closing:
            server.close()
    with client:
        assert client.recv(1) == b""
    server.close()
    (problem,) = server.problems
    assert "not today" in str(problem)


def test_events_of_another_socket_are_no_connection() -> None:
    with TCPServer(settings=PATIENT) as server:
        [listener] = server._listeners
        for stale in (READ, WRITE, READ | WRITE):
            listener.on_ready(stale)
        assert server.connections == ()
        with plain_client(server.address):
            conn = server.accept()
            for stale in (READ, WRITE, READ | WRITE):
                conn._stream.on_ready(stale)
            assert (conn.received, conn.peer_ended, conn.is_closed) == (b"", None, False)
    listener.on_ready(READ)


def test_events_of_another_socket_do_not_end_a_connect() -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        steps = open_connection(
            full.getsockname(), family=None, timeout=None, name=None, settings=PATIENT
        )
        next(steps)
        sources = Engine.current().selector._sources
        [connecting] = [source for source in sources.values() if isinstance(source, Connector)]
        connecting.on_ready(WRITE)
        assert not connecting.done.level
        steps.close()
        assert connecting not in sources.values()


# -- too many open files

EXHAUSTED = """
    import errno, os, resource, socket, threading
    from pytest_sockets import EndpointError, EchoServer, Settings, TCPServer

    clients = [socket.socket() for _ in range(10)]

    def connect_with(descriptors):
        used = len(os.listdir("/proc/self/fd")) - 1  # without that of the folder itself
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + descriptors, hard))
        for client in clients:
            try:
                client.connect(server.address)
            except (ConnectionRefusedError, ConnectionResetError):
                pass  # after the problem, or queued by the kernel as the listener ended with it

    echo = EchoServer()
    server = TCPServer(settings=Settings(timeout=60))
"""
WHILE_OPEN = """
    number = server._listeners[0]._socket.fileno()
    told = []
    def wait():
        try:
            server.wait_connections(1000)
        except EndpointError as error:
            told.append(error)
    waiting = threading.Thread(target=wait)
    waiting.start()
    connect_with(descriptors=5)
    waiting.join()  # nobody but the problem ends it

    [problem] = server.problems
    assert told == [problem], told
    assert problem.__cause__.errno == errno.EMFILE
    # A listener that cannot accept stays readable: the loop would spin on it.
    echo.received  # the I/O thread has been through with it
    assert number not in server._engine.selector._sources
    assert number not in [fd for fd, _ in server._engine.selector._epoll.poll(0)]
    for client in clients:
        client.close()
    with socket.create_connection(echo.address) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
    try:
        socket.create_connection(server.address).close()
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("it still listens")
    server.close()
    assert server.problems == (problem,)
    print("done")
"""
WHILE_CLOSING = """
    with server._lock:  # nobody accepts meanwhile
        connect_with(descriptors=5)
        server.close()
    assert len(server.connections) == 5
    [problem] = server.problems
    assert problem.__cause__.errno == errno.EMFILE
    for client in clients:
        client.close()
    print("done")
"""


@pytest.mark.parametrize("then", [WHILE_OPEN, WHILE_CLOSING], ids=["open", "closing"])
def test_too_many_open_files_are_one_problem_and_no_busy_loop(then: str) -> None:
    assert run_quietly(EXHAUSTED + then, flags=("-W", "error")) == "done"
