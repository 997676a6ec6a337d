"""The tasks that an `async def` handler starts have an owner, and an end."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import unittest
from typing import Any

import pytest

from pytest_sockets import (
    AsyncConnection,
    EndpointError,
    PeerGoneError,
    Settings,
    Sockets,
    TCPServer,
)
from pytest_sockets._engine.engine import Engine
from stream_ends import FOREVER, PATIENCE, abort, plain_client, read_to_eof
from told import errors_of, told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


async def fail(conn: AsyncConnection, error: BaseException) -> None:
    """Fail after the client's first byte: one that is reset before may see that in `connect`."""
    await conn.recv(1)
    raise error


# -- errors


def test_an_error_of_a_task_that_nobody_awaits_is_a_problem_at_once(
    server: TCPServer, caplog: pytest.LogCaptureFixture
) -> None:
    error = LookupError("in a task")

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(fail(conn, error))  # noqa: RUF006  # nobody holds it: that is tested
        await asyncio.Event().wait()

    with plain_client(server.address) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(LookupError) as caught:
        server.wait_closed(9, timeout=FOREVER)
    assert caught.value is error
    assert errors_of(server) == [error]
    (note,) = [event.note for event in server.transcript if event.kind == "problem"]
    assert note == "a task of handler talk of connection 0: LookupError: in a task"
    assert caplog.messages == []


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        unittest.SkipTest("skipped"),
        pytest.skip.Exception("skipped"),
        pytest.exit.Exception("out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_end_more_than_the_test_becomes_a_failure(
    server: TCPServer, error: BaseException
) -> None:
    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(fail(conn, error))  # noqa: RUF006  # as above
        await asyncio.Event().wait()

    with plain_client(server.address) as client:
        client.sendall(b"x")
        (problem,) = errors_of(server)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert type(problem) is EndpointError
    assert problem.__cause__ is error
    who = "a task of handler talk of tcp_server connection 0"
    assert str(problem).startswith(f"{who} raised {type(error).__name__}")


def test_an_error_of_a_task_that_is_held_is_told_at_the_end(server: TCPServer) -> None:
    held: list[asyncio.Task[Any]] = []

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        held.append(asyncio.create_task(fail(conn, LookupError("held"))))

    with plain_client(server.address) as client:
        client.sendall(b"x")
        assert read_to_eof(client) == b""
        assert server.received == b"x"
        assert server.problems == ()
        assert told(server) == ["LookupError: held"]
        assert told(server) == []


def test_an_error_that_the_handler_takes_is_its_own_affair(
    server: TCPServer, sockets: Sockets
) -> None:
    gate = sockets.gate()

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        task = asyncio.create_task(fail(conn, LookupError("expected")))
        await asyncio.wait([task])
        await conn.hold(gate)
        with pytest.raises(LookupError):
            await task
        await conn.send(b"went on")

    with plain_client(server.address) as client:
        client.sendall(b"x")
        gate.wait_reached()
        assert server.received == b"x"
        assert server.problems == ()
        gate.release()
        assert read_to_eof(client) == b"went on"
    assert told(server) == []


@pytest.mark.parametrize("end", ["EOF", "RST"])
def test_a_peer_that_goes_ends_a_task_and_is_only_noted(server: TCPServer, end: str) -> None:
    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        await asyncio.wait([asyncio.create_task(need_more(conn))])
        await asyncio.Event().wait()

    async def need_more(conn: AsyncConnection) -> None:
        await conn.recv_exactly(5)

    with plain_client(server.address) as client:
        client.sendall(b"abc")
        server.assert_received(b"abc")
        if end == "RST":
            abort(client)
        else:
            client.shutdown(socket.SHUT_WR)
        conn = server.accept()
        conn.wait_eof() if end == "EOF" else conn.expect_reset()
        assert told(server) == []
        assert conn.is_closed == (end == "RST")
    (note,) = [event.note for event in conn.transcript if event.kind == "note"]
    assert note.startswith("a task of handler talk ended: tcp_server connection 0: recv_exactly")


def test_a_task_that_fails_after_the_last_line_fails_the_test_all_the_same() -> None:
    async def fail_later(conn: AsyncConnection) -> None:
        await conn.recv(1)
        for _ in range(20):
            await asyncio.sleep(0)
        raise LookupError

    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(fail_later(conn))  # noqa: RUF006  # as above
        await asyncio.Event().wait()

    for n in range(20):
        with TCPServer(settings=Settings(timeout=PATIENCE)) as one:
            one.serve(talk)
            with plain_client(one.address) as client:
                client.sendall(b"x")
            assert told(one) == ["LookupError: "], n


def test_a_task_that_a_timer_starts_after_the_handler_is_at_work_too(server: TCPServer) -> None:
    contexts: list[contextvars.Context] = []

    async def fail_later() -> None:
        for _ in range(500):
            await asyncio.sleep(0)
        raise LookupError

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        contexts.append(contextvars.copy_context())

    with plain_client(server.address) as client:
        assert read_to_eof(client) == b""
        assert told(server) == []
        loop = server._engine.loop
        loop.call_soon_threadsafe(loop.create_task, fail_later(), context=contexts[0])
        assert told(server) == ["LookupError: "]


# -- the end


class Background:
    """A handler that returns and leaves a task, which notes how it goes on and ends."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, conn: AsyncConnection) -> None:
        asyncio.create_task(self.wait(), name="ticker")  # noqa: RUF006  # as above

    async def wait(self) -> None:
        try:
            await self.go_on.wait()
            self.steps.append("went on")
            await asyncio.Event().wait()
        finally:
            for _ in range(100):
                await asyncio.sleep(0)
            self.steps.append("cleaned up")


def test_a_task_outlives_its_handler_and_ends_with_the_server() -> None:
    background, before = Background(), set(Engine.current().at_work)
    server = TCPServer(settings=Settings(timeout=FOREVER))
    server.serve(background)
    with plain_client(server.address) as client:
        assert read_to_eof(client) == b""
        server._engine.post(background.go_on.set)
        assert told(server) == []
        assert background.steps == ["went on"]
        server.close()
    assert background.steps == ["went on", "cleaned up"]
    assert Engine.current().at_work == before
    assert server.problems == ()


def test_a_task_that_meets_the_end_of_its_connection_is_only_noted(
    server: TCPServer, sockets: Sockets
) -> None:
    gate = sockets.gate()

    async def send_on(conn: AsyncConnection) -> None:
        await conn.hold(gate)
        await conn.send(b"too late")

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(send_on(conn))  # noqa: RUF006  # as above
        await asyncio.sleep(0)

    with plain_client(server.address) as client:
        gate.wait_reached()
        assert read_to_eof(client) == b""
        gate.release()
        assert told(server) == []
    (note,) = [event.note for event in server.transcript if event.kind == "note"]
    assert note.startswith("a task of handler talk ended: tcp_server connection 0")


def test_a_task_that_does_not_end_is_named_and_the_close_is_bounded() -> None:
    may_go = asyncio.Event()
    server = TCPServer(settings=Settings(timeout=0.05))

    async def stay() -> None:
        while not may_go.is_set():
            try:
                await may_go.wait()
            except asyncio.CancelledError:
                continue

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(stay(), name="stubborn")  # noqa: RUF006  # as above
        await asyncio.sleep(0)

    with plain_client(server.address) as client:
        assert read_to_eof(client) == b""
        text = "but stubborn of handler talk of tcp_server connection 0 still runs"
        with pytest.warns(ResourceWarning, match=text):
            server.close()
    server._engine.post(may_go.set)


def test_a_problem_does_not_cancel_what_the_test_did_not_end(server: TCPServer) -> None:
    # Only the end of the server does: a task that meets the reset gets the problem from its verbs.
    ends: list[BaseException] = []

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(note(conn))  # noqa: RUF006  # as above
        await conn.recv(1)
        raise LookupError

    async def note(conn: AsyncConnection) -> None:
        try:
            await conn.recv_exactly(100)
        except BaseException as error:
            ends.append(error)
            raise

    with plain_client(server.address) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert told(server) == ["LookupError: "]
    assert [type(error) for error in ends] == [LookupError]


def test_a_script_that_a_handler_lets_begin_is_not_the_handler_s(sockets: Sockets) -> None:
    # A look at the record takes in what has come for all endpoints, in the context of the looker.
    scripted, server = sockets.tcp_server(name="scripted"), sockets.tcp_server()
    scripted.script().expect(b"ping").send(b"pong").close()
    clients: list[socket.socket] = []

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        clients.append(plain_client(scripted.address))
        assert conn.received == b""
        assert scripted._connections

    with plain_client(server.address) as client:
        assert read_to_eof(client) == b""
    server.close()
    with clients[0] as client:
        client.settimeout(PATIENCE)
        client.sendall(b"ping")
        assert read_to_eof(client) == b"pong"
    assert told(scripted) == told(server) == []


def test_a_gone_peer_of_another_endpoint_is_no_failure_either(server: TCPServer) -> None:
    # As in the handler itself: whose peer it was is not looked at.
    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        asyncio.create_task(fail(conn, PeerGoneError("upstream")))  # noqa: RUF006  # as above
        await asyncio.sleep(0)
        await conn.wait_eof()

    with plain_client(server.address) as client:
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b""
    assert told(server) == []
