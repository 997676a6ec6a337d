"""A handler serves each connection: a plain function in a thread, `async def` on the I/O loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import socket
import threading
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_sockets import (
    AsyncConnection,
    Connection,
    EndpointClosedError,
    EndpointError,
    PeerGoneError,
    Settings,
    Sockets,
    SocketsError,
    TCPServer,
)
from pytest_sockets._endpoints import endpoint as endpoint_module
from pytest_sockets._engine.clock import Deadline
from pytest_sockets._engine.engine import Engine
from pytest_sockets._engine.waiting import Latch
from stream_ends import FOREVER, PATIENCE, abort, plain_client, read_to_eof
from told import errors_of, told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]
KINDS = ["plain", "async"]
PATIENT = Settings(timeout=PATIENCE)


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


def handler_of(kind: str, action: Callable[[], object]) -> Any:
    """Return a handler of either kind that does something after the client's first byte.

    Not before: a client that is reset as soon as it is accepted may see that in `connect`.
    """

    def handler(conn: Connection) -> None:
        conn.recv(1)
        action()

    async def async_handler(conn: AsyncConnection) -> None:
        await conn.recv(1)
        action()

    async_handler.__name__ = "handler"
    return handler if kind == "plain" else async_handler


def assert_reset(server: TCPServer) -> None:
    """Have a client send a byte, and be reset for it."""
    with plain_client(server.address) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def raiser(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def answers(server: TCPServer, request: bytes = b"") -> bytes:
    with plain_client(server.address) as client:
        client.sendall(request)
        return read_to_eof(client)


# -- serving


def test_a_handler_is_called_once_for_each_connection_and_its_return_closes(
    server: TCPServer,
) -> None:
    seen: list[int] = []

    @server.serve
    def talk(conn: Connection) -> None:
        seen.append(conn.index)
        conn.send(b"hello " + conn.recv_line())

    for n in range(3):
        assert answers(server, b"%d\nleft unread" % n) == b"hello %d\n" % n
    assert seen == [0, 1, 2]
    assert told(server) == []


def test_an_async_handler_has_the_verbs_as_coroutines(server: TCPServer) -> None:
    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        line = await conn.recv_line()
        await conn.send(b"hello " + line)
        await conn.expect(b"bye")
        conn.saved["facts"] = (conn.received, conn.sent, conn.index, conn.peer_ended)
        conn.saved["more"] = (conn.endpoint is server, conn.is_closed, len(conn.transcript))

    with plain_client(server.address) as client:
        client.sendall(b"x\n")
        assert client.recv(100) == b"hello x\n"
        client.sendall(b"bye")
        assert read_to_eof(client) == b""
        conn = server.accept()
        assert conn.saved["facts"] == (b"x\nbye", b"hello x\n", 0, None)
        assert conn.saved["more"] == (True, False, 4)
        assert conn.peer_address == client.getsockname()
    assert told(server) == []


class Shop:
    def serve(self, conn: Connection) -> None:
        conn.send(b"method")

    def __call__(self, conn: Connection) -> None:
        conn.send(b"object")


class AsyncShop:
    async def __call__(self, conn: AsyncConnection) -> None:
        await conn.send(b"async object")


def greet(greeting: bytes, conn: Connection) -> None:
    conn.send(greeting)


async def greet_async(greeting: bytes, conn: AsyncConnection) -> None:
    await conn.send(greeting)


CALLABLES: dict[str, tuple[Any, bytes, str]] = {
    "a method": (Shop().serve, b"method", "serve"),
    "an object": (Shop(), b"object", "Shop"),
    "an async object": (AsyncShop(), b"async object", "AsyncShop"),
    "a partial": (functools.partial(greet, b"partial"), b"partial", "greet"),
    "an async partial": (functools.partial(greet_async, b"async"), b"async", "greet_async"),
    "a lambda": (lambda conn: conn.send(b"lambda"), b"lambda", "<lambda>"),
}


@pytest.mark.parametrize("case", CALLABLES)
def test_a_handler_is_anything_that_can_be_called(server: TCPServer, case: str) -> None:
    handler, answer, name = CALLABLES[case]
    assert server.serve(handler) is handler
    assert answers(server) == answer
    with pytest.raises(
        SocketsError, match=f"driven by its handler {name}, so the test cannot"
    ) as caught:
        server.accept().send(b"x")
    assert str(caught.value).endswith("; wait, assert and read the record, or do it in the handler")
    assert told(server) == []


@functools.wraps(greet)
def wrapped(conn: Connection) -> None:
    greet(b"a decorator's", conn)


class NoSignature:
    __signature__ = "what no signature is"

    def __call__(self, conn: Connection) -> None:
        conn.send(b"no signature")


@pytest.mark.parametrize(
    ("handler", "answer"), [(wrapped, b"a decorator's"), (NoSignature(), b"no signature")]
)
def test_a_handler_is_asked_for_its_own_signature_if_it_has_one(
    server: TCPServer, handler: Any, answer: bytes
) -> None:
    server.serve(handler)
    assert answers(server) == answer
    assert told(server) == []


def takes_two(conn, text, mark=b"!"):
    raise AssertionError("it cannot be called")


async def takes_nothing_async() -> None:
    raise AssertionError("it cannot be called")


def yielding(conn: Connection) -> Iterator[None]:
    yield conn.send(b"never")


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (1, "handler must be a function that takes a connection, not 1"),
        (yielding, "handler yielding has a yield, so a call would not run it: leave that out"),
        (
            lambda: None,
            "handler <lambda> takes (), but is called with the connection alone",
        ),
        (
            takes_two,
            "handler takes_two takes (conn, text, mark=b'!'), but is called with the connection "
            "alone",
        ),
        (
            functools.partial(takes_two, text=b"x", mark=b"?", conn=None),
            "handler takes_two takes (*, conn=None, text=b'x', mark=b'?'), but is called with the "
            "connection alone",
        ),
        (Shop, "handler Shop takes (), but is called with the connection alone"),
        (
            takes_nothing_async,
            "handler takes_nothing_async takes () -> 'None', but is called with the connection "
            "alone",
        ),
    ],
)
def test_what_cannot_be_a_handler_is_refused_at_once(
    server: TCPServer, handler: Any, text: str
) -> None:
    with pytest.raises(TypeError) as caught:
        server.serve(handler)
    assert str(caught.value) == text


def test_two_handlers_are_refused(server: TCPServer) -> None:
    server.serve(Shop())
    with pytest.raises(ValueError, match=r"^tcp_server is served by Shop already$"):
        server.serve(Shop())


def test_a_handler_that_returns_a_coroutine_is_told_how_to_be_written(server: TCPServer) -> None:
    server.serve(lambda conn: conn.recv(1) and greet_async(b"never", conn))
    assert_reset(server)
    assert told(server) == [
        "TypeError: handler <lambda> returned a coroutine: write it as `async def`"
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_runs_with_the_context_variables_of_where_it_was_given(
    server: TCPServer, kind: str
) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    def look() -> None:
        seen.append(variable.get())
        variable.set("of the handler")

    variable.set("of the test")
    server.serve(handler_of(kind, look))
    assert answers(server, b"x") == answers(server, b"x") == b""
    assert seen == ["of the test"] * 2
    assert variable.get() == "of the test"
    assert told(server) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_serves_the_open_connections_that_came_before_it(
    server: TCPServer, kind: str
) -> None:
    clients = [plain_client(server.address) for _ in range(3)]
    server.wait_connections(3)
    server.serve(handler_of(kind, lambda: None))
    for client in clients:
        client.sendall(b"x")
        assert read_to_eof(client) == b""
        client.close()
    assert told(server) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_may_open_another_listener_as_ftp_does(
    server: TCPServer, sockets: Sockets, kind: str
) -> None:
    if kind == "plain":

        @server.serve
        def retrieve(conn: Connection) -> None:
            with TCPServer(name="data", settings=PATIENT) as data:
                conn.send(b"%d\n" % data.port)
                data.accept().send(b"the file")

    else:

        @server.serve
        async def retrieve_async(conn: AsyncConnection) -> None:
            with TCPServer(name="data", settings=PATIENT) as data:
                await conn.send(b"%d\n" % data.port)
                await (await data.aio.accept()).aio.send(b"the file")

    with plain_client(server.address) as client:
        port = int(client.makefile().readline())
        with plain_client(("127.0.0.1", port)) as data:
            assert read_to_eof(data) == b"the file"
        assert read_to_eof(client) == b""
    assert told(server) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_connections_are_served_at_once(
    server: TCPServer, sockets: Sockets, kind: str
) -> None:
    gate = sockets.gate()
    if kind == "plain":

        @server.serve
        def talk(conn: Connection) -> None:
            conn.hold(gate)
            conn.send(conn.recv_line())

    else:

        @server.serve
        async def talk_async(conn: AsyncConnection) -> None:
            await conn.hold(gate)
            await conn.send(await conn.recv_line())

    clients = [plain_client(server.address) for _ in range(100)]
    gate.wait_reached(100)
    for n, client in enumerate(clients):
        client.sendall(b"%d\n" % n)
    gate.release()
    for n, client in enumerate(clients):
        assert read_to_eof(client) == b"%d\n" % n
        client.close()
    assert told(server) == []


# -- failing


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


FAILURES: list[BaseException] = [
    AssertionError("not equal"),
    ValueError("bad"),
    ConnectionResetError(104, "its own"),
    EndpointClosedError("another endpoint's"),
    ExceptionGroup("several", [ValueError("a")]),
    ExceptionGroup("one more than the peer", [PeerGoneError("gone"), ValueError("a")]),
    Unprintable(),
    pytest.fail.Exception("by hand"),
]
WRAPPED: list[BaseException] = [
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    StopIteration(),
    asyncio.CancelledError(),
    unittest.SkipTest("skipped"),
    pytest.skip.Exception("skipped"),
    pytest.xfail.Exception("expected"),
    pytest.exit.Exception("out"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_an_exception_of_a_handler_is_a_problem_and_resets_the_connection(
    server: TCPServer, kind: str, error: BaseException
) -> None:
    server.serve(handler_of(kind, raiser(error)))
    assert_reset(server)
    with pytest.raises(type(error)) as caught:
        server.wait_closed(9, timeout=FOREVER)
    assert caught.value is error
    assert errors_of(server) == [error]
    notes = [event.note for event in server.transcript if event.kind == "problem"]
    assert [note.partition(": ")[0] for note in notes] == ["handler handler of connection 0"]


@pytest.mark.parametrize(
    ("kind", "error"),
    # Python itself makes a RuntimeError of a StopIteration in a coroutine.
    [
        pytest.param(kind, error, id=f"{kind}-{type(error).__name__}")
        for kind in KINDS
        for error in WRAPPED
        if (kind, type(error)) != ("async", StopIteration)
    ],
)
def test_an_exception_that_is_no_failure_becomes_one(
    server: TCPServer, kind: str, error: BaseException
) -> None:
    server.serve(handler_of(kind, raiser(error)))
    assert_reset(server)
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # else a skip would skip this test
        server.wait_closed(9, timeout=FOREVER)
    (problem,) = errors_of(server)
    assert caught.value is problem
    assert type(problem) is EndpointError
    assert problem.__cause__ is error
    assert str(problem).startswith(
        f"handler handler of tcp_server connection 0 raised {type(error).__name__}"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["EOF", "RST"])
def test_a_peer_that_goes_ends_the_handler_and_is_only_noted(
    server: TCPServer, kind: str, end: str
) -> None:
    if kind == "plain":
        server.serve(lambda conn: conn.recv_exactly(5))
    else:

        @server.serve
        async def talk(conn: AsyncConnection) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(conn.recv_exactly(5))  # type: ignore[arg-type]  # a coroutine of ours is an Awaitable to mypy

    client = plain_client(server.address)
    client.sendall(b"abc")
    server.assert_received(b"abc")
    client.close() if end == "EOF" else abort(client)
    conn = server.accept()
    conn.wait_closed()
    assert told(server) == []
    (note,) = [event.note for event in conn.transcript if event.kind == "note"]
    assert "ended: tcp_server connection 0: recv_exactly wanted 5 bytes, but the peer" in note


def test_a_handler_may_catch_that_the_peer_has_gone(server: TCPServer) -> None:
    @server.serve
    def talk(conn: Connection) -> None:
        try:
            conn.recv_line()
        except PeerGoneError:
            conn.send(b"too late?")

    with plain_client(server.address) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b"too late?"
    assert told(server) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_ends_the_other_handlers_and_is_told_once(
    server: TCPServer, sockets: Sockets, kind: str
) -> None:
    error = ValueError("first")

    def act(conn: Any) -> Any:
        if conn.index == 3:
            raise error
        return conn.recv_line()

    gate = sockets.gate()

    async def act_async(conn: AsyncConnection) -> None:
        await conn.hold(gate)
        async with asyncio.TaskGroup() as group:
            group.create_task(act(conn))

    def act_plain(conn: Connection) -> None:
        conn.hold(gate)
        act(conn)

    server.serve(act_plain if kind == "plain" else act_async)
    clients = [plain_client(server.address) for _ in range(4)]
    gate.wait_reached(4)
    gate.release()
    for client in clients:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()
    assert len(errors_of(server)) == 1


def test_a_handler_that_fails_after_the_last_line_fails_the_test_all_the_same() -> None:
    # What is not resting is waited for: here a thread that has been woken but has not gone on.
    for n in range(50):
        with TCPServer(settings=PATIENT) as one:
            one.serve(lambda conn: conn.recv_line() and 1 / 0)
            with plain_client(one.address) as client:
                client.sendall(b"x\n")
            assert told(one) == ["ZeroDivisionError: division by zero"], n


def test_a_handler_that_asks_for_the_record_is_at_work(
    server: TCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its hop to the I/O thread is answered at once; the test's own could be answered before it.
    hopping, may_go = threading.Event(), threading.Event()
    settle = TCPServer._settle
    talking: list[int] = []

    def slowly(server: TCPServer) -> Any:
        if threading.get_ident() in talking:
            hopping.set()
            yield Blocked(may_go)
        return (yield from settle(server))

    class Blocked:
        def __init__(self, event: threading.Event) -> None:
            self.deadline = server.settings.deadline(None)
            self.event = event

        def arm(self, wake: Callable[[], None]) -> None:
            threading.Thread(target=lambda: (self.event.wait(PATIENCE), wake())).start()

        def disarm(self, wake: Callable[[], None]) -> None:
            pass

    monkeypatch.setattr(TCPServer, "_settle", slowly)

    @server.serve
    def talk(conn: Connection) -> None:
        talking.append(threading.get_ident())
        assert conn.received == b"never"

    with plain_client(server.address):
        assert hopping.wait(PATIENCE)
        may_go_soon = Engine.current().timer(server.settings.deadline(0.05), may_go.set)
        assert len(told(server)) == 1
        may_go_soon.cancel()


# -- blocking


def test_a_blocking_verb_in_an_async_handler_is_refused_by_name(server: TCPServer) -> None:
    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        await conn.recv(1)
        server.accept()
        server.accept()

    assert_reset(server)
    assert told(server) == [
        "SocketsError: handler talk of tcp_server connection 0 runs in the I/O thread, where a "
        "blocking verb would stop every endpoint: await its twin, or write the handler as a plain "
        "function"
    ]


def test_a_handler_that_blocks_the_loop_is_reported_by_name(
    server: TCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "SYNC_TIMEOUT", 0.6)
    begun, may_go = threading.Event(), threading.Event()

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        begun.set()
        may_go.wait(PATIENCE)

    with plain_client(server.address):
        assert begun.wait(PATIENCE)
        with pytest.raises(EndpointError) as caught:
            assert server.received
        may_go.set()
        assert str(caught.value) == (
            "the I/O thread did not answer within 0.2 s: "
            "handler talk of tcp_server connection 0 blocks it"
        )
    monkeypatch.undo()
    server.accept().wait_closed()
    assert told(server) == []


# -- the end


def handler_threads() -> set[threading.Thread]:
    """Return the threads that handlers run in, those which other tests have left too."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("handler ")}


def test_the_end_of_the_test_ends_blocked_handlers_and_leaves_nothing() -> None:
    ends: list[BaseException] = []
    threads, tasks = handler_threads(), set(Engine.current().at_work)
    with warnings.catch_warnings(), Sockets(PATIENT) as sockets:
        warnings.simplefilter("error")
        gate = sockets.gate()
        threaded, awaited = sockets.tcp_server(), sockets.tcp_server()

        @threaded.serve
        def talk(conn: Connection) -> None:
            conn.hold(gate)
            try:
                conn.recv_line()
            except EndpointClosedError as error:
                ends.append(error)
                raise

        @awaited.serve
        async def talk_async(conn: AsyncConnection) -> None:
            await conn.hold(gate)
            try:
                await conn.recv_line()
            except (EndpointClosedError, asyncio.CancelledError) as error:
                ends.append(error)
                raise

        clients = [plain_client(at.address) for at in (threaded, awaited) * 5]
        gate.wait_reached(10)
        gate.release()
        sockets.close()
        gc.collect()
        assert handler_threads() <= threads
        assert Engine.current().at_work <= tasks
        for client in clients:
            client.close()
    assert [error for error in ends if not isinstance(error, asyncio.CancelledError)]
    assert threaded.problems == awaited.problems == ()


def test_a_handler_that_is_busy_for_ever_does_not_hold_up_the_end_of_the_test() -> None:
    begun, may_go = threading.Event(), threading.Event()
    server = TCPServer(settings=Settings(timeout=0.05))

    @server.serve
    def talk(conn: Connection) -> None:
        begun.set()
        may_go.wait()

    with plain_client(server.address):
        assert begun.wait(PATIENCE)
        assert told(server) == []
        with pytest.warns(ResourceWarning, match="handler talk of tcp_server connection 0 still"):
            server.close()
    may_go.set()


def test_a_thread_that_outlives_its_server_is_named() -> None:
    begun, may_go = threading.Event(), threading.Event()
    server = TCPServer(settings=Settings(timeout=0.05))

    @server.serve
    def talk(conn: Connection) -> None:
        begun.set()
        may_go.wait(PATIENCE)

    with plain_client(server.address):
        assert begun.wait(PATIENCE)
        text = "tcp_server has closed, but handler talk of tcp_server connection 0 still runs"
        with pytest.warns(ResourceWarning, match=text):
            server.close()
    may_go.set()


def test_a_task_that_outlives_its_server_is_named() -> None:
    may_go = []
    server = TCPServer(settings=Settings(timeout=0.05))

    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        event = asyncio.Event()
        may_go.append((asyncio.get_running_loop(), event))
        try:
            await conn.recv_line()
        finally:
            while not event.is_set():  # its server's end, and then the cancelling, both end a wait
                with contextlib.suppress(asyncio.CancelledError):
                    await event.wait()

    with plain_client(server.address):
        server.accept(timeout=PATIENCE)
        server.assert_nothing_received()
        text = "tcp_server has closed, but handler talk of tcp_server connection 0 still runs"
        with pytest.warns(ResourceWarning, match=text):
            server.close()
    ((loop, event),) = may_go
    loop.call_soon_threadsafe(event.set)


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_may_close_its_server(server: TCPServer, kind: str) -> None:
    def close() -> None:
        server.close()
        closed.release()

    closed = threading.Semaphore(0)
    server.serve(handler_of(kind, close))
    with plain_client(server.address) as client:
        client.sendall(b"x")
        assert read_to_eof(client) == b""
        with pytest.raises(EndpointClosedError):
            server.wait_connections(2, timeout=FOREVER)
    assert closed.acquire(timeout=PATIENCE)
    assert server.problems == ()


def test_an_interrupt_during_a_wait_leaves_the_handlers_to_the_end_of_the_server(
    monkeypatch: pytest.MonkeyPatch, armed: threading.Semaphore
) -> None:
    # A real signal may come just before a thread blocks, and then wakes nobody.
    main, wait = threading.get_ident(), Latch.wait

    def interrupted(latch: Latch, deadline: Deadline) -> bool:
        if threading.get_ident() == main:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return wait(latch, deadline)

    threads = handler_threads()
    server = TCPServer()
    server.serve(lambda conn: conn.recv_line())
    with plain_client(server.address):
        assert armed.acquire(timeout=PATIENCE)  # the handler waits
        monkeypatch.setattr(Latch, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt), server:
            server.wait_connections(5, timeout=FOREVER)
    assert server.is_closed
    assert handler_threads() <= threads
    assert server.problems == ()
