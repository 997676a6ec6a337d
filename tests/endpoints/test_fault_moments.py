"""When a fault of a stream acts: exactly there, before anything answers, and once a connection."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable

import anyio
import pytest

from fault_ends import GREETING, faults_of, nothing_comes, read_exactly, read_to_the_end
from pytest_sockets import (
    AsyncConnection,
    ChargenServer,
    Connection,
    EndpointClosedError,
    MismatchError,
    Sockets,
    StreamServer,
    TCPServer,
    WaitTimeout,
)
from pytest_sockets._endpoints.behaviours import CHARGEN_LINES
from pytest_sockets._endpoints.behaviours import Behaviour as Silence
from pytest_sockets._engine.stream import Stream
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    BeforeSend,
    Close,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    OnFirstByte,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)
from stream_ends import FOREVER, Background, abort, plain_client, read_to_eof

pytestmark = pytest.mark.timeout(120)

SECONDS = 3600.0


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


# -- before anything answers


def by_echo(sockets: Sockets) -> StreamServer:
    return sockets.echo_server()


def by_script(sockets: Sockets) -> StreamServer:
    server = sockets.tcp_server()
    server.script().expect(GREETING).send(GREETING).wait_eof().send(b"!").close()
    return server


def by_rule(sockets: Sockets) -> StreamServer:
    server = sockets.tcp_server()
    server.on(GREETING, GREETING)
    return server


def by_handler(sockets: Sockets) -> StreamServer:
    server = sockets.tcp_server()

    @server.serve
    def answer(conn: Connection) -> None:
        conn.expect(GREETING)
        conn.send(GREETING)
        conn.wait_eof()
        conn.send(b"!")

    return server


def by_async_handler(sockets: Sockets) -> StreamServer:
    server = sockets.tcp_server()

    @server.serve
    async def answer(conn: AsyncConnection) -> None:
        await conn.expect(GREETING)
        await conn.send(GREETING)
        await conn.wait_eof()
        await conn.send(b"!")

    return server


class Answers(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data == GREETING:
            self.transport.write(GREETING)

    def eof_received(self) -> None:
        self.transport.write(b"!")


def by_protocol(sockets: Sockets) -> StreamServer:
    return sockets.serve_protocol(Answers)


DRIVERS = [by_echo, by_script, by_rule, by_handler, by_async_handler, by_protocol]
Driver = Callable[[Sockets], StreamServer]
TAIL = {by_echo: b"", by_rule: b""}
"""What each answers to EOF, where it is not ``b"!"``."""


@pytest.mark.parametrize(
    ("at", "place"),
    [
        (None, 0),
        (OnFirstByte(), 0),
        (AfterReceived(11), 0),
        (AfterReceived(b"world"), 0),
        (BeforeSend(), 0),
        (AfterSent(4), 4),
        (AtEOF(), 11),
    ],
    ids=repr,
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_fault_acts_before_anything_answers(
    sockets: Sockets, driver: Driver, at: Moment | None, place: int
) -> None:
    server = driver(sockets)
    fault = server.fault(Inject(b"INJ"), at=at)
    expected = GREETING[:place] + b"INJ" + GREETING[place:] + TAIL.get(driver, b"!")
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        if at != AtEOF():
            assert read_exactly(client, 14) == expected[:14]
        else:
            assert read_exactly(client, 11) == GREETING
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == expected[14 if at != AtEOF() else 11 :]
        assert fault.hits == 1


@pytest.mark.parametrize(
    "at", [OnFirstByte(), AfterReceived(11), AfterReceived(b"world"), BeforeSend()], ids=repr
)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("effect", [Reset(), Close()], ids=repr)
def test_an_end_comes_before_anything_answers(
    sockets: Sockets, driver: Driver, effect: Effect, at: Moment
) -> None:
    server = driver(sockets)
    server.fault(effect, at=at)
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        assert read_to_the_end(client)[0] == b""
        (conn,) = server.connections
        conn.wait_closed()
        assert conn.sent == b""


# -- exactly there


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
@pytest.mark.parametrize("pattern", [b"a", b"aab", b"\r\n.\r\n", b"end"])
def test_bytes_are_met_where_they_are_complete(
    server: TCPServer, chunk: int, pattern: bytes
) -> None:
    data = b"xaaab\r\n\r\n.\r\nenend" + b"aab\r\n.\r\nend"
    fault = server.fault(StopReading(), at=AfterReceived(pattern))
    with plain_client(server.address) as client:
        for at in range(0, len(data), chunk):
            client.send(data[at : at + chunk])
        fault.wait_hit()
        expected = data[: data.index(pattern) + len(pattern)]
        assert server.received == expected
        (conn,) = server.connections
        assert faults_of(conn) == [
            f"StopReading() at AfterReceived({pattern!r}): 0 bytes sent, {len(expected)} received"
        ]


def test_a_flood_is_stopped_at_exactly_the_bytes(server: TCPServer) -> None:
    data = bytes(3_000_000) + b"needle" + bytes(1_000_000)
    fault = server.fault(StopReading(), at=AfterReceived(b"needle"))
    with Background() as pool, plain_client(server.address) as client:
        done = pool.submit(client.sendall, data)
        fault.wait_hit()
        assert len(server.received) == 3_000_006
        fault.lift()
        server.assert_received(data)
        done.result()


def test_several_places_on_the_way_are_each_met(server: TCPServer) -> None:
    places = [1, 2, 3, 5, 8, 11]
    for place in places:
        server.fault(Inject(b"%d," % place), at=AfterReceived(place))
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        assert read_exactly(client, 13) == b"1,2,3,5,8,11,"
        received = [event.data for event in server.transcript if event.kind == "received"]
        assert [len(data) for data in received] == [1, 1, 1, 2, 3, 3]


def test_faults_of_the_same_moment_act_in_the_order_they_were_made(server: TCPServer) -> None:
    for data in (b"1", b"2", b"3"):
        server.fault(Inject(data), at=AfterSent(5))
    server.fault(HalfClose(), at=AfterSent(5))
    late = server.fault(Inject(b"4"), at=AfterSent(5), must_hit=False)
    with plain_client(server.address) as client:
        server.accept().send(GREETING)
        assert read_to_the_end(client) == (b"hello123", "EOF")
    assert late.hits == 0


@pytest.mark.parametrize("at", [None, BeforeSend(), AfterSent(5), AfterReceived(1)], ids=repr)
def test_what_is_kept_back_keeps_the_order_of_what_is_put_in(
    server: TCPServer, at: Moment | None
) -> None:
    stall = server.fault(Stall(), at=at)
    for data in (b"1", b"2", b"3"):
        server.fault(Inject(data), at=at)
    with plain_client(server.address) as client:
        conn = server.accept()
        if at == AfterReceived(1):
            client.send(b"x")
            conn.recv(1)
        conn.send(GREETING)
        conn.close()
        stall.wait_hit()
        stall.lift()
        place = 5 if at == AfterSent(5) else 0
        assert read_to_eof(client) == GREETING[:place] + b"123" + GREETING[place:]


def test_one_put_into_another_is_at_its_own_place(server: TCPServer) -> None:
    server.fault(Inject(b"[]"), at=AfterSent(5))
    server.fault(Inject(b"()"), at=AfterSent(6))
    server.fault(Inject(b"<>"), at=AfterSent(7))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        assert read_to_eof(client) == b"hello[(<>)] world"


def test_what_is_put_in_is_whole_before_the_next_of_its_moment(server: TCPServer) -> None:
    server.fault(Inject(b"abc"), at=AfterSent(5))
    server.fault(Inject(b"-"), at=AfterSent(6))
    server.fault(Inject(b"!"), at=AfterSent(5))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        assert read_to_eof(client) == b"helloa-bc! world"


@pytest.mark.parametrize("holder", [Slice(), Stall()], ids=repr)
def test_what_is_put_in_is_whole_before_the_next_though_something_holds_it(
    server: TCPServer, holder: Effect
) -> None:
    server.fault(Inject(b"abc"))
    held = server.fault(holder, at=AfterSent(1))
    server.fault(Inject(b"-"), at=AfterSent(2))
    server.fault(Inject(b"!"))
    with plain_client(server.address) as client:
        conn = server.accept()
        assert conn.sent == b"a", "nobody has read it yet"
        if isinstance(holder, Stall):
            held.lift()
        with Background(1) as pool:
            pool.submit(conn.close)
            assert read_to_eof(client) == b"ab-c!"


def test_what_is_put_in_before_a_write_does_not_cut_what_was_put_in_at_the_beginning(
    server: TCPServer,
) -> None:
    server.fault(Inject(b"abc"))
    stall = server.fault(Stall(), at=AfterSent(1))
    server.fault(Inject(b"!"), at=BeforeSend())
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        server.fault(Inject(b"?"))
        assert conn.sent == b"a"
        stall.lift()
        assert read_exactly(client, 5 + len(GREETING)) == b"abc!?" + GREETING


def test_bytes_that_come_behind_a_look_are_looked_at_too(
    server: TCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Stream._peek
    monkeypatch.setattr(Stream, "_peek", lambda stream, most: look(stream, min(most, 3)))
    fault = server.fault(StopReading(), at=AfterReceived(b"abc"))
    with plain_client(server.address) as client:
        client.sendall(b"xxabcab")
        fault.wait_hit()
        assert server.received == b"xxabc"


def test_who_drives_is_called_in_the_io_thread(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    called: list[int] = []
    over = threading.Event()

    class Watcher(Silence):
        def on_drained(self, stream: Stream) -> None:
            called.append(threading.get_ident())
            over.set()

    with plain_client(server.address) as client:
        stream = server.accept()._stream
        with server._lock:  # so that the I/O thread is not faster
            stream.driver = Watcher()
            stream.ask_room()
            server.fault(Inject(b"INJ"))
        over.wait()
        assert client.recv(10) == b"INJ"
    assert called == [server._engine.thread]


def test_what_one_puts_in_at_the_beginning_meets_the_moments_of_others(server: TCPServer) -> None:
    server.fault(Inject(b"[]"))
    server.fault(Inject(b"-"), at=AfterSent(1))
    server.fault(Inject(b"!"), at=AfterSent(0))
    server.fault(Inject(b"()"), at=AtAccept())
    server.fault(Close(), at=AfterSent(5))
    with plain_client(server.address) as client:
        assert read_to_the_end(client) == (b"[-]!(", "EOF")


def test_a_stall_and_a_close_of_one_moment_is_a_close_that_waits(server: TCPServer) -> None:
    stall = server.fault(Stall(), at=AfterSent(5))
    server.fault(Close(), at=AfterSent(5))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        assert client.recv(100) == b"hello"
        assert nothing_comes(client)
        with pytest.raises(EndpointClosedError, match=r"ended by the fault Close\(\) at AfterS"):
            conn.send(b"x")
        stall.lift()
        assert client.recv(100) == b""


def test_a_reset_needs_no_permission(server: TCPServer) -> None:
    server.fault(Stall(), at=AfterSent(5))
    server.fault(Reset(), at=AfterSent(5))
    with plain_client(server.address) as client:
        conn = server.accept()
        client.send(b"x")  # else the connect could have met the reset
        conn.recv(1)
        conn.send(GREETING)
        assert read_to_the_end(client) == (b"hello", "ECONNRESET")


# -- on a connection that is open


@pytest.mark.parametrize(
    "at",
    [AtAccept(), OnFirstByte(), AfterReceived(4), AfterSent(4), AfterSent(0), AtEOF()],
    ids=repr,
)
def test_a_moment_that_has_passed_does_not_come_again(server: TCPServer, at: Moment) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        client.sendall(b"abcde")
        assert conn.recv_exactly(5) == b"abcde"
        conn.send(b"fghij")
        if at == AtEOF():
            client.shutdown(socket.SHUT_WR)
            conn.wait_eof()
        fault = server.fault(Close(), at=at, must_hit=False)
        conn.send(b"klm")
        if at != AtEOF():
            client.sendall(b"abcde")
            client.shutdown(socket.SHUT_WR)
            assert conn.recv_to_eof() == b"abcde"
        conn.close()
        assert read_to_eof(client) == b"fghijklm"
        assert fault.hits == 0


@pytest.mark.parametrize("at", [None, AfterReceived(5), AfterSent(5)], ids=repr)
def test_a_moment_that_is_now_acts_at_once(server: TCPServer, at: Moment | None) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        client.sendall(b"abcde")
        assert conn.recv_exactly(5) == b"abcde"
        conn.send(b"fghij")
        fault = server.fault(Close(), at=at)
        assert fault.hits == 1
        assert read_to_the_end(client) == (b"fghij", "EOF")
        assert faults_of(conn) == [
            ("Close()" if at is None else f"Close() at {at!r}") + ": 5 bytes sent, 5 received"
        ]


@pytest.mark.parametrize(("before", "after", "met"), [(b"ab", b"cab", 5), (b"ca", b"bxxx", 3)])
def test_bytes_are_complete_after_the_fault_was_made(
    server: TCPServer, before: bytes, after: bytes, met: int
) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        client.sendall(before)
        conn.assert_received(before)
        fault = server.fault(StopReading(), at=AfterReceived(b"ab"))
        client.sendall(after)
        fault.wait_hit()
        assert conn.received == (before + after)[:met]


def test_what_is_queued_counts_when_it_goes_out(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with server.fault(Stall()):
            conn.send(GREETING)
            fault = server.fault(Close(), at=AfterSent(5))
            assert fault.hits == 0
        fault.wait_hit()
        assert read_to_the_end(client) == (b"hello", "EOF")


def test_before_sending_is_the_next_send(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(b"hello ")
        server.fault(Inject(b"INJ"), at=BeforeSend())
        assert client.recv(100) == b"hello "
        assert nothing_comes(client)
        conn.send(b"")
        assert nothing_comes(client)
        conn.send(b"world")
        conn.send(b"!")
        conn.close()
        assert read_to_eof(client) == b"INJworld!"


def test_a_fault_ends_a_close_that_waits_for_room(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        client.send(b"unread")
        with pytest.raises(WaitTimeout):
            conn.send(bytes(16_000_000), timeout=0)
        with pytest.raises(WaitTimeout):
            conn.close(timeout=0)
        server.fault(Reset())
        data, end = read_to_the_end(client)
        assert end == "ECONNRESET"
        assert conn.sent.startswith(data)  # what the kernel had not sent yet is lost too


def test_a_half_close_takes_the_place_of_a_close_that_waits(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with pytest.raises(WaitTimeout):
            conn.send(bytes(16_000_000), timeout=0)
        with pytest.raises(WaitTimeout):
            conn.close(timeout=0)
        server.fault(HalfClose())
        assert read_to_the_end(client) == (conn.sent, "EOF")
        client.sendall(b"still heard")
        client.close()
        conn.assert_received(b"still heard")


@pytest.mark.parametrize("effect", [Stall(), Delay(SECONDS), Close(), Reset()], ids=repr)
def test_a_send_that_waits_returns_when_a_fault_takes_its_bytes(
    server: TCPServer, effect: Effect
) -> None:
    with Background() as pool, plain_client(server.address) as client:
        conn = server.accept()
        sending = pool.submit(conn.send, bytes(16_000_000), timeout=FOREVER)
        client.recv(1)
        server.fault(effect)
        sending.result()


@pytest.mark.parametrize("effect", [Stall(), Close()], ids=repr)
def test_a_close_that_waits_returns_too(server: TCPServer, effect: Effect) -> None:
    with Background() as pool, plain_client(server.address):
        conn = server.accept()
        with pytest.raises(WaitTimeout):
            conn.send(bytes(16_000_000), timeout=0)
        closing = pool.submit(conn.close, timeout=FOREVER)
        server.fault(effect)
        closing.result()


def test_faults_come_and_go_on_an_open_connection(server: TCPServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        for round_ in range(5):
            with server.fault(Stall()) as fault:
                conn.send(b"%d" % round_)
                assert nothing_comes(client)
            assert fault.is_lifted
            assert client.recv(100) == b"%d" % round_
        notes = [event.note for event in conn.transcript if event.kind in ("fault", "note")]
        assert len(notes) == 10
        assert notes[1] == "Stall() lifted"


def test_what_waits_for_its_moment_can_be_lifted(server: TCPServer) -> None:
    fault = server.fault(Close(), at=AfterSent(5), must_hit=False)
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(b"hel")
        fault.lift()
        fault.lift()
        conn.send(b"lo world")
        conn.close()
        assert read_to_eof(client) == GREETING
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        conn.close()
        assert read_to_eof(client) == GREETING
    assert repr(fault) == "<Fault Close() at AfterSent(5) of tcp_server, 0 hits, lifted>"


# -- scope


def test_bytes_are_counted_on_each_connection(sockets: Sockets) -> None:
    echo = sockets.echo_server()
    fault = echo.fault(Close(), at=AfterSent(5))
    with plain_client(echo.address) as one, plain_client(echo.address) as two:
        one.sendall(b"hel")
        two.sendall(b"hel")
        assert one.recv(100) == two.recv(100) == b"hel"
        assert fault.hits == 0
        one.sendall(b"lo world")
        assert read_to_the_end(one) == (b"lo", "EOF")
        assert fault.hits == 1
        two.sendall(b"lo world")
        assert read_to_the_end(two) == (b"lo", "EOF")
        assert fault.hits == 2


def test_a_fault_of_one_connection_leaves_the_others_alone(sockets: Sockets) -> None:
    echo = sockets.echo_server()
    fault = echo.fault(Close(), at=AfterSent(5), connection=1)
    expected = [GREETING, b"hello", GREETING]
    for data in expected:
        with plain_client(echo.address) as client:
            client.sendall(GREETING)
            if data == GREETING:
                client.shutdown(socket.SHUT_WR)
            assert read_to_the_end(client) == (data, "EOF")
    assert fault.hits == 1
    assert fault.connection == 1


@pytest.mark.parametrize("at", [AtAccept(), None, OnFirstByte(), AfterSent(5)], ids=repr)
def test_no_more_often_than_asked_for(sockets: Sockets, at: Moment | None) -> None:
    echo = sockets.echo_server()
    fault = echo.fault(HalfClose(), at=at, times=2)
    before = b"hello" if at == AfterSent(5) else b""
    for data in [before, before, GREETING, GREETING]:
        with plain_client(echo.address) as client:
            client.sendall(GREETING)
            client.shutdown(socket.SHUT_WR)
            assert read_to_the_end(client) == (data, "EOF")
    assert fault.hits == 2
    assert repr(fault).endswith("of echo_server, 2 hits, active>")


def test_a_fault_may_be_made_for_a_connection_to_come(server: TCPServer) -> None:
    server.fault(HalfClose(), connection=1)
    with plain_client(server.address) as first, plain_client(server.address) as second:
        assert read_to_the_end(second) == (b"", "EOF")
        assert nothing_comes(first)


# -- waiting for a hit


def test_waiting_for_hits(server: TCPServer) -> None:
    fault = server.fault(Stall(), at=OnFirstByte())
    with Background() as pool:
        second = pool.submit(fault.wait_hit, 2, timeout=FOREVER)
        for hits in (1, 2):
            with plain_client(server.address) as client:
                client.send(b"x")
                fault.wait_hit(hits)
        second.result()
    fault.wait_hit(2, timeout=0)
    with pytest.raises(WaitTimeout) as caught:
        fault.wait_hit(3, timeout=0)
    assert str(caught.value) == (
        "tcp_server: waited 0 s for 3 hits of the fault Stall() at OnFirstByte(), 2 hits so far"
    )


def test_waiting_for_a_hit_of_one_connection_names_it(server: TCPServer) -> None:
    fault = server.fault(Stall(), connection=3, must_hit=False)
    with pytest.raises(WaitTimeout, match=r"Stall\(\) on connection 3, 0 hits so far"):
        fault.wait_hit(timeout=0)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "1"])
def test_a_hit_is_at_least_one(server: TCPServer, n: object) -> None:
    fault = server.fault(Stall(), must_hit=False)
    with pytest.raises((TypeError, ValueError), match="n must be"):
        fault.wait_hit(n)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.anyio
async def test_awaiting_hits(server: TCPServer) -> None:
    fault = server.fault(Stall(), at=AfterReceived(b"GO"))
    async with anyio.create_task_group() as group:
        group.start_soon(fault.aio.wait_hit, 1)
        stream = await anyio.connect_tcp(*server.address)
        await stream.send(b"GO")
    assert fault.hits == 1
    with pytest.raises(WaitTimeout, match="waited 0 s for 2 hits"):
        await fault.aio.wait_hit(2, timeout=0)
    await stream.aclose()


def test_the_end_of_the_endpoint_ends_a_wait(server: TCPServer, armed: threading.Semaphore) -> None:
    fault = server.fault(Stall(), must_hit=False)
    with Background() as pool:
        waiting = pool.submit(fault.wait_hit, timeout=FOREVER)
        armed.acquire()
        server.close()
        with pytest.raises(EndpointClosedError, match="tcp_server is closed"):
            waiting.result()
    with pytest.raises(EndpointClosedError):
        fault.wait_hit()
    assert fault.is_lifted


@pytest.mark.usefixtures("forgiven")
def test_a_problem_ends_a_wait(server: TCPServer, armed: threading.Semaphore) -> None:
    fault = server.fault(Stall(), at=AfterSent(99))
    with Background() as pool:
        waiting = pool.submit(fault.wait_hit, timeout=FOREVER)
        armed.acquire()
        server.script().expect(b"a")
        with plain_client(server.address) as client:
            client.send(b"b")
            with pytest.raises(MismatchError, match=r"expected b'a'"):
                waiting.result()


# -- other endpoints


@pytest.mark.parametrize("kind", ["tcp_socket_pair", "unix_socket_pair"])
def test_a_pair(sockets: Sockets, kind: str) -> None:
    pair = getattr(sockets, kind)()
    fault = pair.fault(Close(), at=AfterReceived(b"lo"))
    pair.socket.sendall(b"hello")
    assert pair.socket.recv(100) == b""
    fault.wait_hit()
    assert repr(fault) == f"<Fault Close() at AfterReceived(b'lo') of {kind}, 1 hit, active>"


def test_the_client_side(sockets: Sockets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        conn = sockets.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(60)
            conn.endpoint.fault(Reset(), at=AfterSent(5))
            conn.send(GREETING)
            assert read_to_the_end(accepted) == (b"hello", "ECONNRESET")
            with pytest.raises(EndpointClosedError) as caught:
                conn.send(b"x")
    assert str(caught.value) == (
        "raw_client cannot send: its side was ended by the fault Reset() at AfterSent(5)"
    )


def test_reading_tells_which_fault_ended_our_side(server: TCPServer) -> None:
    server.fault(Reset(), at=OnFirstByte())
    with plain_client(server.address) as client:
        conn = server.accept()
        client.send(b"xyz")
        with pytest.raises(EndpointClosedError) as caught:
            conn.recv_exactly(3)
    assert str(caught.value) == (
        "tcp_server connection 0: recv_exactly wanted 3 bytes, but the connection is closed on our "
        "side by the fault Reset() at OnFirstByte(); unread: b'x' (1 byte)"
    )


@pytest.mark.parametrize("place", [1, 1000, 7030, 7031, 500_000])
def test_a_chargen_server_is_cut_anywhere(sockets: Sockets, place: int) -> None:
    chargen = sockets.chargen_server()
    chargen.fault(Close(), at=AfterSent(place))
    with plain_client(chargen.address) as client:
        data, end = read_to_the_end(client)
        assert (len(data), end) == (place, "EOF")
        assert (CHARGEN_LINES * (place // len(CHARGEN_LINES) + 1)).startswith(data)


@pytest.mark.parametrize("effect", [Stall(), Slice(1000), Delay(1e-4)], ids=repr)
def test_a_chargen_server_goes_on_after_what_held_it(sockets: Sockets, effect: Effect) -> None:
    chargen: ChargenServer = sockets.chargen_server()
    fault = chargen.fault(effect, at=AfterSent(100))
    with plain_client(chargen.address) as client:
        fault.wait_hit()
        assert read_exactly(client, 100) == CHARGEN_LINES[:100]
        if effect == Stall():
            assert nothing_comes(client)
        else:
            assert read_exactly(client, 20_000) == (CHARGEN_LINES * 4)[100:20_100]
        fault.lift()
        assert len(read_exactly(client, 1_000_000)) == 1_000_000


def test_a_discard_and_a_silent_server(sockets: Sockets) -> None:
    discard, silent = sockets.discard_server(), sockets.silent_server()
    discard.fault(Close(), at=AfterReceived(5))
    silent.fault(Inject(b"not so"), at=OnFirstByte())
    with plain_client(discard.address) as one, plain_client(silent.address) as two:
        one.sendall(GREETING)
        two.sendall(GREETING)
        assert read_to_the_end(one) == (b"", "EOF")
        assert two.recv(100) == b"not so"


class Told(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append(f"data {data!r}")
        self.transport.write(data)

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(f"lost {exc}")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


@pytest.mark.parametrize("effect", [Close(), Reset()], ids=repr)
def test_a_protocol_is_told_that_its_connection_is_lost(sockets: Sockets, effect: Effect) -> None:
    made: list[Told] = []
    server = sockets.serve_protocol(lambda: made.append(Told()) or made[-1])
    server.fault(effect, at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(GREETING)
        assert read_to_the_end(client)[0] == b"hello"
        server.wait_closed(1)
        server.close()
    assert made[0].calls == [f"data {GREETING!r}", "lost None"]


def test_a_protocol_feels_the_backpressure_of_a_stall(sockets: Sockets) -> None:
    made: list[Told] = []
    server = sockets.serve_protocol(lambda: made.append(Told()) or made[-1])
    data = bytes(200_000)
    with plain_client(server.address) as client, Background() as pool:
        with server.fault(Stall()):
            client.sendall(data)
            server.assert_received(data)
            assert server.received == data  # and the protocol has acted on it
            assert "pause" in made[0].calls
            assert "resume" not in made[0].calls
        reading = pool.submit(read_exactly, client, len(data))
        assert reading.result() == data
        server.assert_sent(data)
        assert made[0].calls[-1] == "resume"


def test_a_protocol_that_has_paused_reading_stays_paused(sockets: Sockets) -> None:
    made: list[Told] = []
    server = sockets.serve_protocol(lambda: made.append(Told()) or made[-1])
    with plain_client(server.address) as client:
        client.send(b"a")
        assert client.recv(1) == b"a"
        server._engine.post(made[0].transport.pause_reading)
        assert server.received == b"a"
        with server.fault(StopReading()):
            client.send(b"b")
        assert server.received == b"a"  # lifted, but still paused
        with server.fault(StopReading()):
            server._engine.post(made[0].transport.resume_reading)
            assert server.received == b"a"  # resumed, but still stopped
        server.assert_received(b"ab")


# -- all together


def test_effects_work_together(server: TCPServer) -> None:
    server.fault(Inject(b"<"), at=AfterSent(3))
    server.fault(Corrupt(2), at=AfterSent(4))
    server.fault(Slice(4))
    server.fault(Throttle(1e5))
    server.fault(Delay(1e-4))
    server.fault(Close(), at=AfterSent(10))
    with plain_client(server.address) as client:
        conn = server.accept()
        conn.send(GREETING)
        data, end = read_to_the_end(client)
        assert end == "EOF"
        assert re.fullmatch(rb"hel<..* wor", data, re.DOTALL)
        assert data[4:6] != b"lo"
        assert len(data) == 10


@pytest.mark.parametrize("effect", [Inject(b"too late"), Reset()], ids=repr)
def test_a_moment_that_is_met_while_a_connection_is_lost_is_met_once(
    server: TCPServer, effect: Effect
) -> None:
    fault = server.fault(effect, at=AfterReceived(5))
    with plain_client(server.address) as client:
        conn = server.accept()
        with server._lock:  # so that a send of ours is what finds the reset
            client.sendall(b"hello")
            abort(client)
            conn._stream.write(b"x")
        assert conn.received == b"hello"
        assert fault.hits == 1
        kinds = [event.kind for event in conn.transcript]
        assert kinds.count("closed") + kinds.count("reset_sent") == 1
        assert kinds.count("peer_reset") == (effect != Reset())


def test_a_long_effect_is_cut_in_what_is_told(server: TCPServer) -> None:
    fault = server.fault(Inject(bytes(100_000)), at=AfterReceived(bytes(100_000)), must_hit=False)
    assert len(repr(fault)) < 1_000
