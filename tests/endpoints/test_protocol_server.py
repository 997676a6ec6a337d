"""Somebody's asyncio protocol on our listener: what it is called with, and what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from pytest_sockets import (
    EndpointError,
    ProtocolServer,
    Settings,
    Sockets,
    SocketsError,
    UnsupportedError,
)
from pytest_sockets._engine.selector import READ
from stream_ends import (
    CONSUMING,
    PATIENCE,
    Background,
    abort,
    early_client,
    plain_client,
    read_to_eof,
)
from told import errors_of

pytestmark = pytest.mark.timeout(120)

PATIENT = Settings(timeout=PATIENCE)
LARGE = bytes(range(256)) * 4096 * 10
"""10 MiB: more than the kernel takes from one side while the other does not read."""

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Told(asyncio.Protocol):
    """Notes what it is called with; a subclass answers."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.received = b""
        self.threads: set[int] = set()

    def note(self, call: Any) -> None:
        self.calls.append(call)
        self.threads.add(threading.get_ident())

    def connection_made(self, transport: Any) -> None:
        self.note("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.note("data")
        self.received += data

    def eof_received(self) -> bool | None:
        self.note("eof")
        return None

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note(exc if exc is None else type(exc))


class Echo(Told):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


def keeping(cls: Callable[[], Any], made: list[Any]) -> Callable[[], Any]:
    """Return a factory whose protocols the test can look at."""

    def factory() -> Any:
        made.append(cls())
        return made[-1]

    return factory


def settled(server: ProtocolServer) -> None:
    """Return when the protocols have acted on all that was sent before."""
    server.check()


async def echo_lines(reader: Reader, writer: Writer) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


# -- what a protocol does


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual", "unix"])
@pytest.mark.parametrize("factory", [Echo, echo_lines])
def test_an_echo_protocol_serves_and_is_recorded(
    sockets: Sockets, family: str, factory: Any
) -> None:
    server = sockets.serve_protocol(factory, family=family)
    content = b"line\n" * 2000
    for address in server.addresses:
        with plain_client(address) as client, Background() as pool:
            reading = pool.submit(read_to_eof, client)
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            assert reading.result() == content
    server.wait_closed(len(server.addresses))
    for conn in server.connections:
        assert conn.received == conn.sent == content


def test_callbacks_come_in_order_and_in_one_thread(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Echo, made))
    with plain_client(server.address) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(5) == b""
    settled(server)
    assert made[0].calls == ["made", "data", "eof", None]
    assert len(made[0].threads) == 1
    assert made[0].threads != {threading.get_ident()}


def test_everything_sent_before_counts_also_when_it_came_at_once(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    for _ in range(100):
        with plain_client(server.address) as client:
            client.sendall(LARGE[:1000])
            client.shutdown(socket.SHUT_WR)
            settled(server)
            assert made[-1].received == LARGE[:1000]
            assert made[-1].calls[-2:] == ["eof", None]


def test_what_connection_made_asks_for_soon_comes_before_the_data(sockets: Sockets) -> None:
    class Soon(Told):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            asyncio.get_running_loop().call_soon(self.note, "soon")

    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Soon, made))
    with early_client(server, b"go\n"):
        settled(server)
        assert made[0].calls == ["made", "soon", "data"]


def test_each_connection_has_a_protocol_of_its_own(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    with plain_client(server.address) as first, plain_client(server.address) as second:
        first.sendall(b"first")
        second.sendall(b"second")
        settled(server)
    assert [told.received for told in made] == [b"first", b"second"]


def test_a_reset_by_the_peer_is_the_reason_of_the_end(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    client = plain_client(server.address)
    client.sendall(b"before")
    settled(server)
    abort(client)
    settled(server)
    assert made[0].calls == ["made", "data", ConnectionResetError]
    assert made[0].received == b"before"


def test_our_own_reset_from_the_test_loses_the_connection_too(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    with plain_client(server.address) as client:
        server.accept().reset()
        settled(server)
        assert made[0].calls == ["made", None]
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_close_from_the_test_loses_the_connection_too(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    with plain_client(server.address) as client:
        server.accept().close()
        assert client.recv(1) == b""
        settled(server)
        assert made[0].calls == ["made", None]


class Buffered(asyncio.BufferedProtocol):
    """Has room for a few bytes at a time."""

    room = 1000

    def __init__(self) -> None:
        self.buffer = bytearray(self.room)
        self.received = bytearray()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]


class NoRoom(Buffered):
    room = 0


def test_a_buffered_protocol_gets_everything_in_pieces_that_fit(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Buffered, made))
    with plain_client(server.address) as client:
        client.sendall(LARGE)
        client.shutdown(socket.SHUT_WR)
        server.assert_received(LARGE)
        assert client.recv(1) == b""
    assert made[0].received == LARGE


# -- halves


class KeepsOpen(Told):
    """Answers after the peer's EOF, and closes when it is told."""

    def eof_received(self) -> bool:
        super().eof_received()
        self.transport.write(b"answer")
        return True


def test_a_true_answer_to_eof_keeps_our_side_open(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(KeepsOpen, made))
    with plain_client(server.address) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(6) == b"answer"
        settled(server)
        told = made[0]
        assert told.calls == ["made", "eof"]
        assert not told.transport.is_closing()
        server._engine.post(told.transport.write, b", more")
        assert client.recv(6) == b", more"
        server._engine.post(told.transport.close)
        assert client.recv(6) == b""
    settled(server)
    assert told.calls == ["made", "eof", None]


class WritesEOF(Told):
    def __init__(self, *, keeps: bool) -> None:
        super().__init__()
        self.keeps = keeps

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        assert transport.can_write_eof()
        transport.write(b"greeting")
        transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.write(b"too late")

    def eof_received(self) -> bool:
        super().eof_received()
        return self.keeps


@pytest.mark.parametrize("keeps", [False, True])
def test_after_our_eof_the_peer_s_bytes_and_eof_are_received(sockets: Sockets, keeps: bool) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(functools.partial(WritesEOF, keeps=keeps), made))
    with plain_client(server.address) as client:
        assert read_to_eof(client) == b"greeting"
        client.sendall(b"reply")
        client.shutdown(socket.SHUT_WR)
        settled(server)
    told = made[0]
    assert told.received == b"reply"
    assert told.calls == ["made", "data", "eof"] + [None] * (not keeps)
    if keeps:  # asyncio waits for close(), though both directions have ended
        assert not told.transport.is_closing()
        server._engine.post(told.transport.close)
        settled(server)
        assert told.calls == ["made", "data", "eof", None]


# -- pausing


class Pausing(Told):
    """Takes one chunk, then nothing."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.pause_reading()
        assert not self.transport.is_reading()


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_who_pauses_gets_nothing_and_sync_drains_nothing(sockets: Sockets, family: str) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Pausing, made), family=family)
    with plain_client(server.address) as client, Background() as pool:
        client.sendall(b"first")
        settled(server)
        sending = pool.submit(client.sendall, LARGE)  # cannot end: the kernel holds less
        for _ in range(10):
            assert server.received == b"first"
        assert made[0].calls == ["made", "data"]
        assert not sending.done()
        conn = server.connections[0]
        made[0].data_received = functools.partial(Told.data_received, made[0])
        server._engine.post(made[0].transport.resume_reading)
        sending.result()
        conn.assert_received(b"first" + LARGE)
        settled(server)
    assert made[0].received == b"first" + LARGE


def test_a_paused_stream_is_not_watched(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    server = sockets.serve_protocol(Pausing)
    with plain_client(server.address) as client:
        client.sendall(b"first")
        settled(server)
        stream = server._streams[0]
        events: list[int] = []
        monkeypatch.setattr(stream, "on_ready", events.append)
        client.sendall(b", second")
        assert server.received == b"first"
        assert events == []


def test_news_that_was_on_its_way_is_not_read(sockets: Sockets) -> None:
    server = sockets.serve_protocol(Pausing)
    with plain_client(server.address) as client:
        client.sendall(b"first")
        settled(server)
        client.sendall(b", second")
        server._streams[0].on_ready(READ)
        assert server.received == b"first"


def test_what_a_paused_protocol_left_is_recorded_as_the_server_closes(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Pausing, made))
    with plain_client(server.address) as client:
        client.sendall(b"first")
        settled(server)
        client.sendall(b", second")
        assert server.received == b"first"
        server.close()
        assert server.received == b"first, second"
    assert made[0].calls == ["made", "data", None]


def test_what_a_paused_protocol_left_is_recorded_after_its_close(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Pausing, made))
    with plain_client(server.address) as client:
        client.sendall(b"first")
        settled(server)
        server._engine.post(made[0].transport.close)
        assert client.recv(1) == b""
        client.sendall(b", second")
        server.assert_received(b"first, second")
    assert made[0].received == b"first"


def test_bytes_and_eof_that_came_before_the_pause_wait_for_its_end(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Pausing, made))
    with server._lock:  # all is read in one go
        client = plain_client(server.address)
        client.sendall(LARGE[:100_000])
        client.shutdown(socket.SHUT_WR)
    with client:
        settled(server)
        told = made[0]
        assert 0 < len(told.received) < 100_000
        assert told.calls == ["made", "data"]
        told.data_received = functools.partial(Told.data_received, told)
        server._engine.post(told.transport.resume_reading)
        server.connections[0].wait_eof()  # the client's kernel has kept back what had no room
        settled(server)
        assert told.received == LARGE[:100_000]
        assert told.calls[-2:] == ["eof", None]


def test_a_paused_connection_that_the_peer_resets_is_found_out_by_a_write(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Pausing, made))
    client = plain_client(server.address)
    client.sendall(b"first")
    settled(server)
    abort(client)
    settled(server)
    assert made[0].calls == ["made", "data"]
    server._engine.post(made[0].transport.write, b"answer")
    settled(server)
    assert made[0].calls[:2] == ["made", "data"]
    assert issubclass(made[0].calls[2], ConnectionError)


class Flood(Told):
    """Writes 10 MiB, and closes when it may write again."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=100_000, low=10_000)
        self.sizes = [0]
        for start in range(0, len(LARGE), 65536):
            transport.write(LARGE[start : start + 65536])
            self.sizes.append(transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.sizes.append(self.transport.get_write_buffer_size())
        self.transport.close()


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_a_slow_reader_makes_the_protocol_pause_and_go_on(sockets: Sockets, family: str) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Flood, made), family=family)
    with plain_client(server.address) as client:
        settled(server)
        assert made[0].calls == ["made", "pause"]
        assert max(made[0].sizes) > 100_000
        assert read_to_eof(client) == LARGE
        settled(server)
    assert made[0].calls == ["made", "pause", "resume", None]
    assert 0 <= made[0].sizes[-1] <= 10_000
    server.assert_sent(LARGE)


async def flood(reader: Reader, writer: Writer) -> None:
    for start in range(0, len(LARGE), 65536):
        writer.write(LARGE[start : start + 65536])
        await writer.drain()
        assert writer.transport.get_write_buffer_size() <= 64 * 1024
    writer.close()


def test_drain_holds_a_callback_back_until_the_peer_reads(sockets: Sockets) -> None:
    server = sockets.serve_protocol(flood)
    with plain_client(server.address) as client:
        settled(server)
        assert len(server.sent) < len(LARGE)
        assert read_to_eof(client) == LARGE


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 10}, (10, 40)),
        ({"high": 0}, (0, 0)),
        ({"high": 5, "low": 5}, (5, 5)),
    ],
)
def test_limits_are_asyncio_s(
    sockets: Sockets, given: dict[str, int], limits: tuple[int, int]
) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    with plain_client(server.address):
        settled(server)
        transport = made[0].transport
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(**given)
        assert transport.get_write_buffer_limits() == limits
        with pytest.raises(ValueError, match=r"high \(1\) must be at least low \(2\)"):
            transport.set_write_buffer_limits(high=1, low=2)


# -- ends


class Ends(Told):
    """Sends 10 MiB and ends at once."""

    how = "close"

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(LARGE)
        getattr(self.transport, self.how)()
        assert self.transport.is_closing()


class Aborts(Ends):
    how = "abort"


def test_close_sends_what_is_queued_and_receives_no_more(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Ends, made))
    with plain_client(server.address) as client:
        client.sendall(b"go")
        settled(server)
        assert made[0].calls == ["made", "data", "pause"]
        client.sendall(b"no more")
        assert read_to_eof(client) == LARGE
        server.assert_received(b"gono more")
    settled(server)
    assert made[0].received == b"go"
    assert made[0].calls == ["made", "data", "pause", "resume", None]


def test_abort_sends_a_reset(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Aborts, made))
    with plain_client(server.address) as client:
        client.sendall(b"go")
        settled(server)  # nobody reads meanwhile, so the queue is long
        with pytest.raises(ConnectionResetError):
            read_to_eof(client)
    assert made[0].calls == ["made", "data", "pause", None]
    assert server.transcript[-1].kind == "reset_sent"


def test_closing_the_server_loses_open_connections_and_waits_for_it(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    with plain_client(server.address), plain_client(server.address):
        server.assert_connections(2)
        server.close()
        assert [told.calls for told in made] == [["made", None]] * 2
        server.close()
    assert [told.calls for told in made] == [["made", None]] * 2


def test_a_protocol_may_close_the_server(sockets: Sockets) -> None:
    class Closes(Told):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            server.close()

    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Closes, made))
    with plain_client(server.address) as client:
        client.sendall(b"go")
        assert client.recv(1) == b""
    server.close()
    assert made[0].calls == ["made", "data", None]


def test_who_is_queued_as_the_server_closes_is_recorded_but_not_served(sockets: Sockets) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made))
    with server._lock, plain_client(server.address) as client:
        client.sendall(b"too late")
        server.close()
    assert server.connections[0].received == b"too late"
    assert made == []


# -- callbacks and tasks


def test_a_plain_callback_is_called_as_by_start_server(sockets: Sockets) -> None:
    def greet(reader: Reader, writer: Writer) -> None:
        writer.write(b"hello")
        writer.close()

    server = sockets.serve_protocol(greet)
    with plain_client(server.address) as client:
        assert read_to_eof(client) == b"hello"


def test_a_callback_that_returns_leaves_the_connection_open(sockets: Sockets) -> None:
    async def greet(reader: Reader, writer: Writer) -> None:
        writer.write(b"hello")

    server = sockets.serve_protocol(greet)
    with plain_client(server.address) as client:
        assert client.recv(5) == b"hello"
        settled(server)
        assert not server.connections[0].is_closed


class Patient:
    """A callback that waits for ever, and notes how it ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.background: set[Any] = set()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        self.background.add(asyncio.create_task(self.wait("background"), name="background"))
        await self.wait("callback")

    async def wait(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ends.append(name)


def test_closing_cancels_all_tasks_and_waits_until_they_have_ended(sockets: Sockets) -> None:
    patient = Patient()
    server = sockets.serve_protocol(patient)
    with plain_client(server.address):
        server.assert_connections(1)
        settled(server)
        assert patient.ends == []
        server.close()
    assert sorted(patient.ends) == ["background", "callback"]
    assert asyncio.all_tasks(server._engine.loop) == set()
    server.check()


def test_a_task_that_outlives_its_connection_is_cancelled_too(sockets: Sockets) -> None:
    patient = Patient()
    server = sockets.serve_protocol(patient)
    with plain_client(server.address):
        settled(server)
    server.connections[0].wait_eof()
    server.connections[0].reset()
    settled(server)
    assert patient.ends == []
    server.close()
    assert sorted(patient.ends) == ["background", "callback"]


def test_an_error_of_a_task_that_is_held_is_told_at_the_end(sockets: Sockets) -> None:
    held: list[asyncio.Task[None]] = []

    async def fail() -> None:
        raise LookupError("held")

    async def callback(reader: Reader, writer: Writer) -> None:
        held.append(asyncio.create_task(fail()))
        await reader.read()

    server = sockets.serve_protocol(callback)
    with plain_client(server.address):
        server.assert_connections(1)
        server._sync()  # as `settled` without the judgement at the end
        assert server.problems == ()
        (error,) = errors_of(server)
        assert str(error) == "protocol_server failed on its own side: held"
        assert errors_of(server) == []


def test_who_cleans_up_is_cancelled_only_once(sockets: Sockets) -> None:
    release = asyncio.Event()
    ends: list[str] = []

    async def callback(reader: Reader, writer: Writer) -> None:
        try:
            await reader.read()
        finally:
            await release.wait()
            ends.append("cleaned up")

    server = sockets.serve_protocol(callback)
    with plain_client(server.address):
        settled(server)
        (tap,) = server._taps
        server._engine.post(server.close)  # from the I/O thread: it does not wait
        for _ in range(3):
            server._engine.post(tap._wake)
            tcp = sockets.tcp_server()
            tcp.assert_connections(0)  # a turn later
        server._engine.post(release.set)
        server.close()
    assert ends == ["cleaned up"]


def test_a_callback_that_is_cancelled_before_it_begins_warns_of_nothing(sockets: Sockets) -> None:
    begun: list[str] = []

    async def never() -> None:
        begun.append("never")

    def callback(reader: Reader, writer: Writer) -> Awaitable[None]:
        server.close()  # in the I/O thread: the task made of what is returned has not begun
        begun.append("callback")
        return never()

    server = sockets.serve_protocol(callback)
    with plain_client(server.address) as client:
        assert client.recv(1) == b""
    server.close()
    assert begun == ["callback"]
    assert server._taps == set()


@pytest.mark.usefixtures("unwatched")
def test_a_task_that_does_not_end_is_a_problem_and_the_close_is_bounded() -> None:
    release: list[asyncio.Event] = []

    async def stubborn(reader: Reader, writer: Writer) -> None:
        release.append(asyncio.Event())
        while not release[0].is_set():
            try:
                await release[0].wait()
            except asyncio.CancelledError:
                continue

    server = ProtocolServer(stubborn, settings=Settings(timeout=0.05))
    with plain_client(server.address):
        server.assert_connections(1, timeout=PATIENCE)
        settled(server)
        server.close()
    server._engine.post(release[0].set)
    (problem,) = server.problems
    assert "the callback stubborn was cancelled, and has not ended within 0.05 s" in str(problem)


# -- problems


class Raises(Told):
    where: ClassVar[str]

    def strike(self, where: str) -> None:
        if where == self.where:
            msg = f"oops in {where}"
            raise ZeroDivisionError(msg)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(100_000)
        self.strike("connection_made")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.strike("data_received")
        self.transport.write(LARGE)

    def eof_received(self) -> None:
        super().eof_received()
        self.strike("eof_received")

    def pause_writing(self) -> None:
        super().pause_writing()
        self.strike("pause_writing")

    def resume_writing(self) -> None:
        super().resume_writing()
        self.strike("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.strike("connection_lost")


def provoke(server: ProtocolServer, *, to_the_end: bool) -> bytes | type[Exception]:
    """Make a protocol run through all its methods, and return how it ended for the client."""
    with early_client(server, b"go\n") as client:
        with contextlib.suppress(EndpointError):
            settled(server)
        try:
            if to_the_end:
                client.shutdown(socket.SHUT_WR)
            return read_to_eof(client)
        except ConnectionResetError:
            return ConnectionResetError


FIRST = ["connection_made", "data_received", "pause_writing", "resume_writing"]
LAST = ["eof_received", "connection_lost"]


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("where", FIRST + LAST)
def test_an_exception_in_any_callback_is_a_problem_and_a_reset(where: str) -> None:
    made: list[Any] = []
    cls = type("Raises", (Raises,), {"where": where})
    server = ProtocolServer(keeping(cls, made), settings=PATIENT)
    seen = provoke(server, to_the_end=where in LAST)
    with pytest.raises(EndpointError, match=f"oops in {where}") as caught:
        server.check()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert len(server.problems) == 1
    server.close()
    calls = made[0].calls
    if where == "connection_lost":
        assert seen == LARGE
    else:
        assert seen is ConnectionResetError
        assert calls[-1] is ZeroDivisionError
    assert sum(call is None or call is ZeroDivisionError for call in calls) == 1


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (lambda: 1 // 0, "by zero"),
        (lambda: None, "made None, which is no asyncio.Protocol"),
        (NoRoom, r"get_buffer\(\) returned an empty buffer"),
    ],
)
def test_a_factory_that_fails_is_a_problem_and_a_reset(factory: Any, why: str) -> None:
    server = ProtocolServer(factory, settings=PATIENT)
    with early_client(server, b"go\n") as client:
        with pytest.raises(ConnectionResetError):
            read_to_eof(client)
    with pytest.raises(EndpointError, match=why):
        server.check()
    server.close()


async def raising(reader: Reader, writer: Writer) -> None:
    await reader.readline()
    msg = "oops"
    raise LookupError(msg)


async def failing(reader: Reader, writer: Writer) -> None:
    await reader.readline()
    pytest.fail("oops")


async def exiting(reader: Reader, writer: Writer) -> None:
    await reader.readline()
    raise SystemExit("oops")


def raising_plainly(reader: Reader, writer: Writer) -> None:
    msg = "oops"
    raise LookupError(msg)


async def raising_in_a_task(reader: Reader, writer: Writer) -> None:
    task = asyncio.create_task(raising(reader, writer))
    await asyncio.wait([task])


async def raising_in_a_timer(reader: Reader, writer: Writer) -> None:
    await reader.readline()
    asyncio.get_running_loop().call_soon(raising_plainly, reader, writer)


async def refused_upstream(reader: Reader, writer: Writer) -> None:
    await reader.readline()
    msg = "oops"
    raise ConnectionResetError(msg)  # of some other connection: this peer is still there


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize(
    "callback",
    [
        raising,
        failing,
        exiting,
        raising_plainly,
        raising_in_a_task,
        raising_in_a_timer,
        refused_upstream,
    ],
)
def test_what_escapes_from_a_callback_is_a_problem_at_once(
    callback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = ProtocolServer(callback, settings=PATIENT)
    with early_client(server, b"go\n") as client:
        with pytest.raises(EndpointError, match="oops"):
            server.check()
        with pytest.raises(ConnectionResetError):
            read_to_eof(client)
    server.close()
    assert caplog.messages == []
    assert len(server.problems) == 1


async def needs_more(reader: Reader, writer: Writer) -> None:
    await reader.readexactly(100)


async def sends_on(reader: Reader, writer: Writer) -> None:
    while True:
        writer.write(LARGE[:65536])
        await writer.drain()


def eof(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("callback", "leave"), [(needs_more, eof), (needs_more, abort), (sends_on, abort)]
)
def test_a_peer_that_leaves_in_the_middle_is_no_problem(
    sockets: Sockets, callback: Any, leave: Callable[[socket.socket], None]
) -> None:
    server = sockets.serve_protocol(callback)
    with early_client(server, b"half") as client:
        settled(server)
        leave(client)
        server.wait_closed(1)
    settled(server)
    assert server.problems == ()
    assert server._taps == set()


def test_a_callback_whose_connection_the_test_resets_is_no_problem(sockets: Sockets) -> None:
    server = sockets.serve_protocol(needs_more)
    with plain_client(server.address):
        server.accept().reset()
        settled(server)
    assert server._taps == set()


# -- whose it is


@pytest.mark.parametrize(
    ("factory", "title"),
    [
        (Told, "the protocol Told"),
        (lambda: Told(), "the protocol Told"),  # no class is seen before
        (functools.partial(Told), "the protocol Told"),
        (needs_more, "the callback needs_more"),
        (Patient(), "the callback Patient"),
    ],
)
@pytest.mark.parametrize("name", CONSUMING)
def test_the_test_cannot_take_over_and_is_told_from_whom(
    sockets: Sockets, factory: Any, title: str, name: str
) -> None:
    server = sockets.serve_protocol(factory)
    with plain_client(server.address):
        conn = server.accept()
        settled(server)
        with pytest.raises(SocketsError, match=f"driven by {title}, so the test cannot"):
            CONSUMING[name][0](conn)
        with pytest.raises(SocketsError, match=f"driven by {title}, so the test cannot"):
            conn.send(b"mine")


VARIABLE = contextvars.ContextVar[str]("VARIABLE")


def test_the_code_sees_the_context_variables_of_who_opened_the_server(sockets: Sockets) -> None:
    async def answer(reader: Reader, writer: Writer) -> None:
        writer.write(VARIABLE.get().encode())
        VARIABLE.set("changed")
        writer.close()

    VARIABLE.set("of the test")
    server = sockets.serve_protocol(answer)
    for _ in range(2):
        with plain_client(server.address) as client:
            assert read_to_eof(client) == b"of the test"
    assert VARIABLE.get() == "of the test"


def test_a_blocking_call_of_ours_inside_is_refused_and_the_twin_works(sockets: Sockets) -> None:
    seen: list[Any] = []

    async def callback(reader: Reader, writer: Writer) -> None:
        try:
            server.wait_connections(5, timeout=PATIENCE)
        except SocketsError as error:
            seen.append(str(error))
        await server.aio.wait_connections(1)
        writer.close()

    server = sockets.serve_protocol(callback)
    with plain_client(server.address) as client:
        assert client.recv(1) == b""
    assert len(seen) == 1
    assert "where a blocking verb would stop every endpoint" in seen[0]


# -- the transport


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "unix"])
def test_extra_info_is_the_kernel_s(sockets: Sockets, family: str) -> None:
    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Told, made), family=family)
    with plain_client(server.address) as client:
        settled(server)
        transport = made[0].transport
        assert transport.get_extra_info("peername") == client.getsockname()
        assert transport.get_extra_info("sockname") == client.getpeername()
        assert transport.get_extra_info("cipher", "none") == "none"
        sock = transport.get_extra_info("socket")
        assert sock.family == client.family
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not hasattr(sock, "close")
        with pytest.raises(UnsupportedError, match="no RST goes out while a copy is open"):
            sock.dup()


def test_another_protocol_may_take_over(sockets: Sockets) -> None:
    class Switches(Told):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            echo = Echo()
            made.append(echo)
            echo.transport = self.transport
            self.transport.set_protocol(echo)
            assert self.transport.get_protocol() is echo

    made: list[Any] = []
    server = sockets.serve_protocol(keeping(Switches, made))
    with plain_client(server.address) as client:
        client.sendall(b"switch")
        settled(server)
        client.sendall(b"echo")
        assert client.recv(4) == b"echo"
    server.wait_closed(1)
    settled(server)
    assert made[0].calls == ["made", "data"]
    assert made[1].calls == ["data", "eof", None]


def test_pieces_of_any_kind_are_sent_as_one(sockets: Sockets) -> None:
    class Pieces(Told):
        def connection_made(self, transport: Any) -> None:
            view = memoryview(b"a-b-c")[::2]
            transport.writelines([b"one", bytearray(b"two"), memoryview(b"three"), b""])
            transport.write(view)
            transport.write(b"")
            with pytest.raises(TypeError, match="data must be bytes-like, not str 'text'"):
                transport.write("text")
            transport.close()
            transport.write(b"too late")

    server = sockets.serve_protocol(Pieces)
    with plain_client(server.address) as client:
        assert read_to_eof(client) == b"onetwothreeabc"


def test_tls_is_refused_in_a_sentence(sockets: Sockets) -> None:
    import ssl

    seen: list[str] = []

    async def upgrade(reader: Reader, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            await loop.start_tls(
                writer.transport, writer.transport.get_protocol(), context, server_side=True
            )
        except UnsupportedError as error:
            seen.append(str(error))
        writer.close()

    server = sockets.serve_protocol(upgrade)
    with plain_client(server.address) as client:
        assert client.recv(1) == b""
    assert seen == [
        "start_tls() does not work on a connection of serve_protocol: it cannot do TLS so far"
    ]


# -- factories that will not do


class NeedsMore(asyncio.Protocol):
    def __init__(self, handler: object) -> None:
        """Take what the factory does not have."""


async def takes_nothing() -> None: ...


async def takes_one(reader: Reader) -> None: ...


WANTED = (
    "factory must be callable without arguments and return an asyncio.Protocol, "
    "or be a callback for (reader, writer), "
)


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (5, "not 5"),
        (None, "not None"),
        (Told(), "each connection has its own, so pass its class"),
        (
            NeedsMore,
            "but NeedsMore takes (handler: 'object') -> 'None': "
            "pass a function that makes one, such as lambda: NeedsMore(…)",
        ),
        (takes_nothing, "an async function is a callback for (reader, writer)"),
        (takes_one, "an async function is a callback for (reader, writer)"),
        (asyncio.DatagramProtocol, "not DatagramProtocol, which takes datagrams"),
        (lambda a, b, c: None, "but <lambda> takes (a, b, c): pass a function"),
    ],
)
def test_a_factory_that_will_not_do_is_refused_at_once(
    sockets: Sockets, factory: Any, why: str
) -> None:
    with pytest.raises(TypeError) as caught:
        sockets.serve_protocol(factory)
    assert str(caught.value).startswith(WANTED)
    assert why in str(caught.value)
    assert sockets.endpoints == ()


def test_what_has_defaults_for_two_is_a_factory(sockets: Sockets) -> None:
    class Optional(Echo):
        def __init__(self, one: object = None, two: object = None) -> None:
            assert one is two is None
            super().__init__()

    server = sockets.serve_protocol(Optional)
    with plain_client(server.address) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
