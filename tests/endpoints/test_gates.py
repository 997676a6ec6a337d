"""A gate is where a conversation stops until the test lets it go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from pytest_sockets import (
    AsyncConnection,
    Connection,
    EndpointClosedError,
    Gate,
    MismatchError,
    Settings,
    Sockets,
    TCPServer,
    WaitTimeout,
)
from stream_ends import FOREVER, PATIENCE, Background, forget, plain_client, read_to_eof
from told import told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]
PATIENT = Settings(timeout=PATIENCE)


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


@pytest.fixture
def gate(sockets: Sockets) -> Gate:
    return sockets.gate()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


def by_script(server: TCPServer, gate: Gate) -> None:
    server.script().expect(b"a").hold(gate).send(b"b").close()


def by_silent_script(server: TCPServer, gate: Gate) -> None:
    server.script().expect(b"a").expect_nothing(until=gate).send(b"b").close()


def by_handler(server: TCPServer, gate: Gate) -> None:
    @server.serve
    def talk(conn: Connection) -> None:
        conn.expect(b"a")
        conn.hold(gate)
        conn.send(b"b")


def by_async_handler(server: TCPServer, gate: Gate) -> None:
    @server.serve
    async def talk(conn: AsyncConnection) -> None:
        await conn.expect(b"a")
        await conn.hold(gate)
        await conn.send(b"b")


HOLDERS: dict[str, Callable[[TCPServer, Gate], None]] = {
    "script": by_script,
    "silent script": by_silent_script,
    "handler": by_handler,
    "async handler": by_async_handler,
}


@pytest.fixture(params=HOLDERS)
def holder(request: pytest.FixtureRequest) -> Callable[[TCPServer, Gate], None]:
    return HOLDERS[request.param]


def test_who_holds_goes_on_when_the_test_releases_the_gate(
    server: TCPServer, gate: Gate, holder: Callable[[TCPServer, Gate], None]
) -> None:
    holder(server, gate)
    with plain_client(server.address) as client:
        client.sendall(b"a")
        gate.wait_reached(timeout=FOREVER)
        assert server.sent == b""
        assert not gate.is_released
        gate.release()
        assert read_to_eof(client) == b"b"
    assert told(server) == []


@pytest.mark.anyio
async def test_an_async_test_waits_with_the_twin(
    server: TCPServer, gate: Gate, holder: Callable[[TCPServer, Gate], None]
) -> None:
    holder(server, gate)
    async with await anyio.connect_tcp(*server.address) as client:
        await client.send(b"a")
        await gate.aio.wait_reached(timeout=FOREVER)
        assert server.sent == b""
        gate.release()
        assert await client.receive(9) == b"b"
    assert told(server) == []


@pytest.mark.anyio
async def test_an_async_test_holds_a_connection_itself(
    server: TCPServer, gate: Gate, anyio_backend: str
) -> None:
    done: list[str] = []

    async def hold(conn: Connection) -> None:
        await conn.aio.hold(gate)
        done.append("held")

    with plain_client(server.address):
        conn = await server.aio.accept()
        async with anyio.create_task_group() as group:
            group.start_soon(hold, conn)
            await gate.aio.wait_reached()
            assert done == []
            gate.release()
    assert done == ["held"]


def test_the_test_holds_a_connection_of_its_own_from_a_thread(
    server: TCPServer, gate: Gate
) -> None:
    with plain_client(server.address), Background(1) as background:
        held = background.submit(server.accept().hold, gate)
        gate.wait_reached()
        assert not held.done()
        gate.release()
        assert held.result(PATIENCE) is None


def test_a_handler_waits_until_another_has_come(server: TCPServer, sockets: Sockets) -> None:
    first, second = sockets.gate(), sockets.gate()

    @server.serve
    def talk(conn: Connection) -> None:
        if conn.index == 0:
            conn.hold(first)
            conn.send(b"0")
        else:
            first.wait_reached()
            conn.hold(second)

    with plain_client(server.address) as one, plain_client(server.address):
        second.wait_reached()
        first.release()
        assert read_to_eof(one) == b"0"
        second.release()
    assert told(server) == []


def test_a_released_gate_stays_open_and_is_still_reached(server: TCPServer, gate: Gate) -> None:
    gate.release()
    gate.release()
    assert gate.is_released
    server.script(each=True).hold(gate).send(b"x").close()
    for n in range(1, 4):
        with plain_client(server.address) as client:
            assert read_to_eof(client) == b"x"
        gate.wait_reached(n, timeout=0)
    assert told(server) == []


def test_several_can_be_waited_for(server: TCPServer, gate: Gate) -> None:
    server.script(each=True).hold(gate).close()
    with plain_client(server.address), plain_client(server.address):
        gate.wait_reached(2, timeout=FOREVER)
        with pytest.raises(WaitTimeout) as caught:
            gate.wait_reached(3, timeout=0)
        gate.release()
        server.wait_closed(2)
    assert str(caught.value) == "gate: waited 0 s for somebody to reach it; 2 of 3 came"
    assert told(server) == []


def test_what_was_sent_before_a_wait_has_brought_its_holder_to_the_gate(
    server: TCPServer, gate: Gate
) -> None:
    script = server.script(strict=False)
    gates = [Gate() for _ in range(100)]
    for n, each in enumerate(gates):
        each.release()
        script.expect(b"%d;" % n).hold(each)
    with plain_client(server.address) as client:
        for n, each in enumerate(gates):
            client.sendall(b"%d;" % n)
            each.wait_reached(timeout=0)
    assert told(server) == []


def test_nobody_comes_before_the_deadline(gate: Gate) -> None:
    with pytest.raises(WaitTimeout) as caught:
        gate.wait_reached(timeout=0)
    assert str(caught.value) == "gate: waited 0 s for somebody to reach it; nobody came"


def test_a_gate_waits_as_long_as_its_factory_says() -> None:
    with Sockets(Settings(timeout=0)) as sockets:
        with pytest.raises(WaitTimeout, match="waited 0 s"):
            sockets.gate().wait_reached()
    with pytest.raises(WaitTimeout, match=r"^door: waited 0 s"):
        Gate(name="door", settings=Settings(timeout=0)).wait_reached()


@pytest.mark.parametrize("is_early", [False, True])
def test_a_problem_before_the_gate_ends_the_wait_for_it_at_once(
    server: TCPServer,
    gate: Gate,
    holder: Callable[[TCPServer, Gate], None],
    armed: threading.Semaphore,
    is_early: bool,
) -> None:
    holder(server, gate)
    with plain_client(server.address) as client, Background(1) as background:
        if is_early:
            client.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            assert armed.acquire(timeout=PATIENCE)  # the holder waits
            assert server.received == b""
            forget(armed)
        waits = background.submit(gate.wait_reached, timeout=FOREVER)
        if not is_early:
            assert armed.acquire(timeout=PATIENCE)
            client.sendall(b"x")
        error = waits.exception(PATIENCE)
    assert isinstance(error, MismatchError)
    assert error is server.problems[0]
    assert len(told(server)) == 1


def test_bytes_before_the_release_break_a_silence(server: TCPServer, gate: Gate) -> None:
    server.script().expect(b"a").expect_nothing(until=gate).send(b"b")
    with plain_client(server.address) as client:
        client.sendall(b"a")
        gate.wait_reached()
        client.sendall(b"hurry")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 2 of 3: "
        "expected nothing until gate, got b'hurry'"
    ]


def test_bytes_that_were_sent_before_the_release_break_a_silence_too() -> None:
    for _ in range(50):
        with TCPServer(settings=PATIENT) as server:
            gate = Gate(settings=PATIENT)
            server.script().expect_nothing(until=gate).send(b"b").close()
            with plain_client(server.address) as client:
                gate.wait_reached()
                client.sendall(b"x")
                gate.release()
                (problem,) = told(server)
            assert problem.endswith("step 1 of 3: expected nothing until gate, got b'x'")


def test_an_eof_before_the_release_is_no_byte_and_no_release(
    server: TCPServer, gate: Gate, armed: threading.Semaphore
) -> None:
    server.script().expect_nothing(until=gate).send(b"b").close()
    with plain_client(server.address) as client:
        gate.wait_reached()
        client.shutdown(socket.SHUT_WR)
        server.accept().wait_eof()
        waits = 0
        for _ in range(100):
            assert server.sent == b""
            while armed.acquire(blocking=False):
                waits += 1
        assert waits < 50  # else it takes a turn of the I/O loop each time
        gate.release()
        assert read_to_eof(client) == b"b"
    assert told(server) == []


def test_a_verb_on_hold_ends_with_its_endpoint(server: TCPServer, gate: Gate) -> None:
    with plain_client(server.address), Background(2) as background:
        conn = server.accept()
        holds: list[Any] = [
            background.submit(conn.hold, gate, timeout=FOREVER),
            background.submit(conn.expect_nothing, until=gate, timeout=FOREVER),
        ]
        gate.wait_reached(2)
        server.close()
        for held in holds:
            assert isinstance(held.exception(PATIENCE), EndpointClosedError)


def test_a_verb_on_hold_has_a_deadline_in_the_test(server: TCPServer, gate: Gate) -> None:
    with plain_client(server.address):
        conn = server.accept()
        with pytest.raises(WaitTimeout) as caught:
            conn.hold(gate, timeout=0)
        assert str(caught.value) == (
            "tcp_server connection 0: hold waited 0 s for gate to be released"
        )
        with pytest.raises(WaitTimeout) as caught:
            conn.expect_nothing(until=gate, timeout=0)
        assert str(caught.value) == ("tcp_server connection 0: expect_nothing waited 0 s for gate")


def test_the_test_holds_for_no_longer_than_the_endpoints_default(gate: Gate) -> None:
    with Sockets(Settings(timeout=0)) as sockets:
        server = sockets.tcp_server()
        with plain_client(server.address):
            conn = server.accept(timeout=PATIENCE)
            for wait in (lambda: conn.hold(gate), lambda: conn.expect_nothing(until=gate)):
                with pytest.raises(WaitTimeout, match="waited 0 s for gate"):
                    wait()


def test_all_gates_are_released_at_the_end() -> None:
    ends: list[BaseException | None] = []
    with Sockets(PATIENT) as sockets:
        gate, server = sockets.gate(), sockets.tcp_server()

        @server.serve
        def talk(conn: Connection) -> None:
            try:
                conn.hold(gate)
            except EndpointClosedError as error:
                ends.append(error)
            else:
                ends.append(None)

        with plain_client(server.address):
            gate.wait_reached()
    assert gate.is_released
    assert len(ends) == 1
    assert server.problems == ()


def test_a_gate_shows_how_it_stands(sockets: Sockets, gate: Gate) -> None:
    assert repr(gate) == "<Gate gate, closed, reached by 0>"
    assert sockets.gate().name == "gate-2"
    gate.release()
    assert repr(gate) == "<Gate gate, released, reached by 0>"


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "1"])
def test_a_bad_number_of_holders_is_refused(gate: Gate, n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^n must be "):
        gate.wait_reached(n)
