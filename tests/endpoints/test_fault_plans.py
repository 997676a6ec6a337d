"""What a script, a handler or a rule misses because of a fault is no problem, but noted."""

import asyncio
import socket

import pytest

from fault_ends import GREETING, faults_of, nothing_comes, read_to_the_end
from pytest_sockets import AsyncConnection, Connection, Sockets, TCPServer
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
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
from stream_ends import plain_client, read_to_eof
from told import told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]

BREAKING: list[Effect] = [
    Stall(),
    Close(),
    Reset(),
    HalfClose(),
    StopReading(),
    Corrupt(1),
    Inject(b"INJ"),
]
BENIGN: list[Effect] = [Slice(3), Throttle(1e6), Delay(1e-6)]


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


def notes_of(conn: Connection) -> list[str]:
    return [event.note for event in conn.transcript if event.kind == "note"]


# -- what is excused


@pytest.mark.parametrize("effect", BREAKING, ids=repr)
def test_steps_that_a_script_did_not_reach(server: TCPServer, effect: Effect) -> None:
    server.script().expect(b"one").send(GREETING).expect(b"two").send(b"bye")
    server.fault(effect, at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert client.recv(5) == b"hello"
        assert told(server) == []
    assert server._notes()[0].startswith("script 1: ")


@pytest.mark.parametrize("effect", BENIGN, ids=repr)
def test_a_benign_effect_excuses_no_step(server: TCPServer, effect: Effect) -> None:
    server.script().expect(b"one").send(GREETING).expect(b"two").send(b"bye")
    server.fault(effect, at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert client.recv(5) == b"hello"
        (text,) = told(server)
    assert "step 3 of 4: expected b'two', got nothing; 2 steps left when the test ended" in text


def test_a_fault_that_has_not_acted_excuses_nothing(server: TCPServer) -> None:
    server.script().expect(b"one").send(b"two")
    server.fault(Close(), at=AfterSent(1), must_hit=False)
    with plain_client(server.address) as client:
        client.sendall(b"on")
        server.assert_received(b"on")
        (text,) = told(server)
    assert "expected b'one', got b'on'" in text


def test_a_fault_of_one_connection_excuses_no_other(server: TCPServer) -> None:
    server.script(each=True).expect(b"one").send(b"two")
    server.fault(Close(), at=OnFirstByte(), connection=0)
    with plain_client(server.address) as first, plain_client(server.address) as second:
        first.sendall(b"o")
        second.sendall(b"x")
        read_to_the_end(second)
        (text,) = told(server)
    assert "connection 1" in text
    assert "expected b'one', got b'x'" in text


@pytest.mark.parametrize("effect", [Stall(), Corrupt(1), Inject(b"INJ")], ids=repr)
def test_a_step_that_fails_is_noted(server: TCPServer, effect: Effect) -> None:
    server.script().expect(b"one").send(GREETING).expect(b"two")
    server.fault(effect, at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert client.recv(5) == b"hello"
        client.sendall(b"what?")
        server.assert_received(b"onewhat?")
        assert told(server) == []
        (note,) = notes_of(server.connections[0])
    assert note.startswith("script 1 ended: tcp_server connection 0, step 3 of 3")
    assert "expected b'two', got b'what?'" in note


def test_what_came_before_an_end_is_still_judged(server: TCPServer) -> None:
    server.script().expect(b"one").send(GREETING).expect(b"two")
    server.fault(HalfClose(), at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert read_to_the_end(client) == (b"hello", "EOF")
        client.sendall(b"what?")
        (text,) = told(server)
    assert "step 3 of 3: expected b'two', got b'what?'" in text


def test_surplus_is_excused(server: TCPServer) -> None:
    server.script().expect(b"one").send(GREETING)
    server.fault(HalfClose(), at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        read_to_the_end(client)
        client.sendall(b"more")
        server.assert_received(b"onemore")
        assert told(server) == []


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("effect", [Close(), Reset(), HalfClose()], ids=repr)
def test_a_handler_whose_verbs_fail(server: TCPServer, effect: Effect, is_async: bool) -> None:
    def serve(conn: Connection) -> None:
        conn.expect(b"one")
        conn.send(GREETING)
        conn.send(b"more")

    async def serve_async(conn: AsyncConnection) -> None:
        await conn.expect(b"one")
        await conn.send(GREETING)
        await conn.send(b"more")

    server.serve(serve_async if is_async else serve)
    server.fault(effect, at=AfterSent(5))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert read_to_the_end(client)[0] == b"hello"
        assert told(server) == []
        (note,) = notes_of(server.connections[0])
    name = "serve_async" if is_async else "serve"
    assert note == (
        f"handler {name} ended: tcp_server connection 0 cannot send: its side was ended by the "
        f"fault {effect!r} at AfterSent(5)"
    )


def test_a_handler_whose_task_group_fails(server: TCPServer) -> None:
    @server.serve
    async def serve(conn: AsyncConnection) -> None:
        await conn.expect(b"one")
        async with asyncio.TaskGroup() as group:
            group.create_task(conn.send(b"more"))

    server.fault(Close(), at=AfterReceived(3))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert read_to_the_end(client) == (b"", "EOF")
        assert told(server) == []


def test_an_error_of_a_handlers_own_is_not_excused(server: TCPServer) -> None:
    @server.serve
    def serve(conn: Connection) -> None:
        conn.expect(b"one")
        raise ZeroDivisionError

    server.fault(Close(), at=AfterReceived(3))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        read_to_the_end(client)
        assert told(server) == ["ZeroDivisionError: "]


def test_a_failed_assertion_of_a_handler_is_not_excused(server: TCPServer) -> None:
    @server.serve
    def serve(conn: Connection) -> None:
        assert conn.recv_exactly(3) == b"two", "not two"

    server.fault(Corrupt(1), at=AfterReceived(3))
    with plain_client(server.address) as client:
        client.sendall(b"one")
        read_to_the_end(client)
        (text,) = told(server)
    assert text.startswith("AssertionError: not two")


def test_a_frame_that_no_rule_answers(server: TCPServer) -> None:
    server.on(b"PING", b"PONG")
    server.fault(Inject(b"INJ"), at=AfterSent(2))
    with plain_client(server.address) as client:
        client.sendall(b"PING")
        server.assert_sent(b"POINJNG")
        client.sendall(b"WHAT")
        assert told(server) == []
        (note,) = notes_of(server.connections[0])
    assert note.startswith("tcp_server connection 0: ")
    assert "WHAT" in note


def test_a_frame_that_no_rule_answers_beside_a_benign_effect(server: TCPServer) -> None:
    server.on(b"PING", b"PONG")
    server.fault(Slice(2))
    with plain_client(server.address) as client:
        client.sendall(b"WHAT")
        read_to_the_end(client)
        (text,) = told(server)
    assert "WHAT" in text


# -- what takes a plan


@pytest.mark.parametrize("at", [AtAccept(), None, AfterSent(0), AfterReceived(0)], ids=repr)
@pytest.mark.parametrize("effect", [Reset(), Close(), HalfClose()], ids=repr)
def test_fail_the_first_and_serve_the_next(
    server: TCPServer, effect: Effect, at: Moment | None
) -> None:
    server.script().expect(b"one").send(b"two").close()
    fault = server.fault(effect, at=at, times=2)
    for _ in range(2):
        try:
            client = plain_client(server.address)
        except ConnectionResetError:
            continue
        with client:
            assert read_to_the_end(client)[0] == b""
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert read_to_eof(client) == b"two"
    assert fault.hits == 2
    assert told(server) == []
    assert [conn.sent for conn in server.connections] == [b"", b"", b"two"]


def test_a_handler_serves_only_who_can_be_talked_to(server: TCPServer) -> None:
    served: list[int] = []

    @server.serve
    def serve(conn: Connection) -> None:
        served.append(conn.index)
        conn.recv(1)

    server.fault(Close(), at=AtAccept(), times=1)
    for _ in range(2):
        with plain_client(server.address) as client:
            client.sendall(b"x")
            assert read_to_eof(client) == b""
    assert told(server) == []
    assert served == [1]


@pytest.mark.parametrize("effect", [Stall(), StopReading()], ids=repr)
def test_who_is_only_kept_waiting_takes_a_plan(server: TCPServer, effect: Effect) -> None:
    server.script().expect(b"one").send(b"two").close()
    fault = server.fault(effect, at=AtAccept())
    with plain_client(server.address) as client:
        client.sendall(b"one")
        fault.wait_hit()
        (conn,) = server.connections
        assert conn.sent == b""
        assert nothing_comes(client)
        fault.lift()
        assert read_to_eof(client) == b"two"
    assert told(server) == []


def test_a_connection_that_a_fault_ended_needs_no_plan(server: TCPServer) -> None:
    server.fault(Close(), connection=0)
    with plain_client(server.address) as client:
        assert read_to_eof(client) == b""
    server.script().expect(b"one")
    with plain_client(server.address) as client:
        client.sendall(b"one")
        assert told(server) == []


# -- how it goes on


def test_a_script_goes_on_when_a_stall_is_lifted(server: TCPServer) -> None:
    server.script().expect(b"one").send(b"two").expect(b"three").send(b"four").close()
    stall = server.fault(Stall(), at=BeforeSend())
    with plain_client(server.address) as client:
        client.sendall(b"onethree")
        stall.wait_hit()
        (conn,) = server.connections
        assert conn.sent == b""
        assert nothing_comes(client)
        stall.lift()
        assert read_to_eof(client) == b"twofour"
        assert faults_of(conn) == ["Stall() at BeforeSend(): 0 bytes sent, 8 received"]
    assert told(server) == []


@pytest.mark.parametrize("effect", BENIGN, ids=repr)
def test_a_script_is_played_to_its_end_through_a_benign_effect(
    server: TCPServer, effect: Effect
) -> None:
    server.script().send(b"ready").expect(b"one").send(b"two").expect_eof().send(b"bye").close()
    server.fault(effect)
    with plain_client(server.address) as client:
        client.sendall(b"one")
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b"readytwobye"
    assert told(server) == []
