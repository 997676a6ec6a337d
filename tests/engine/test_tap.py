"""Protocols, callbacks and tasks on the I/O loop leave nothing behind, and say nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from processes import run_quietly
from pytest_sockets import ProtocolServer, Settings
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Latch
from stream_ends import PATIENCE, plain_client

USE = """
import asyncio, gc, logging, os, socket, sys
from pytest_sockets import ProtocolServer, Settings

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.captureWarnings(True)
PID = os.getpid()

async def callback(reader, writer):
    task = asyncio.create_task(asyncio.Event().wait())
    try:
        writer.write(await reader.readexactly(4))
        await task
    finally:
        if os.getpid() != PID:
            print("cleans up behind the parent", file=sys.stderr)

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.write(bytes(10_000_000))
        self.task = asyncio.get_running_loop().create_task(asyncio.Event().wait())

clients = []

def use(factory):
    server = ProtocolServer(factory)
    client = socket.create_connection(server.address)
    clients.append(client)
    client.sendall(b"ping")
    client.recv(4)
    server.check()
    return server
"""
HANG_UP = "\nfor client in clients: client.close()\n"

ENDINGS = {
    "closed": "for factory in (callback, Echo): use(factory).close()",
    "left open": "servers = [use(callback), use(Echo)]",
    "forgotten": "use(callback), use(Echo); gc.collect()",
    "closed at exit": """
import atexit
servers = [use(callback), use(Echo)]
for server in servers: atexit.register(server.close)
""",
    "forked": """
servers = [use(callback), use(Echo)]
if os.fork() == 0:
    for server in servers: server.close()
    del server
    servers.clear()
    gc.collect()
else:
    assert os.wait()[1] == 0
    for server in servers: server.check()
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("flags", [(), ("-X", "dev", "-W", "error")])
def test_a_run_is_silent_to_its_end(ending: str, flags: tuple[str, ...]) -> None:
    # Since 3.12 a fork beside threads warns.
    flags += ("-W", "ignore:This process:DeprecationWarning")
    run_quietly(USE + ENDINGS[ending] + HANG_UP, flags=flags)


def test_a_task_of_nobody_s_protocol_is_told_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine.current()
    done = Latch()

    async def raising() -> None:
        raise LookupError

    async def nobody_s() -> None:
        task = asyncio.create_task(raising())
        await asyncio.wait([task])
        del task

    with ProtocolServer(asyncio.Protocol, settings=Settings(timeout=PATIENCE)) as server:
        with plain_client(server.address):
            server.check()
            future = asyncio.run_coroutine_threadsafe(nobody_s(), engine.loop)
            future.add_done_callback(lambda _: engine.post(done.open))
            assert done.wait(Deadline(PATIENCE))
            server.check()
    assert [(r.name, r.levelno) for r in caplog.records] == [("asyncio", logging.ERROR)]
    assert "exception was never retrieved" in caplog.text


@contextmanager
def at_work(engine: Engine) -> Iterator[None]:
    mark = object()
    engine.at_work.add(mark)
    yield
    engine.at_work.remove(mark)


def test_quiet_waits_for_what_the_loop_was_told_to_run_and_what_that_told_it() -> None:
    engine = Engine.current()
    seen: list[int] = []

    def go_on(number: int) -> None:
        seen.append(number)
        if number < 50:
            engine.loop.call_soon(go_on, number + 1)

    engine.post(go_on, 1)
    latch = Latch()
    with at_work(engine):
        engine.settled(Deadline(PATIENCE)).arm(latch.open)
        assert latch.wait(Deadline(PATIENCE))
    assert seen == list(range(1, 51))


def test_quiet_does_not_wait_for_a_loop_that_never_is() -> None:
    engine = Engine.current()
    stop = threading.Event()

    def spin() -> None:
        if not stop.is_set():
            engine.loop.call_soon(spin)

    engine.post(spin)
    latch = Latch()
    with at_work(engine):
        engine.settled(Deadline(PATIENCE)).arm(latch.open)
        assert latch.wait(Deadline(PATIENCE))
    stop.set()
