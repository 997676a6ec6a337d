import inspect
import re
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from pytest_sockets import (
    Connection,
    DatagramPeer,
    EndpointClosedError,
    MismatchError,
    PeerGoneError,
    Sockets,
    StreamServer,
    TCPServer,
    WaitTimeout,
)
from stream_ends import FOREVER

pytestmark = [pytest.mark.timeout(120), pytest.mark.anyio]

Act = Callable[[SocketStream, Connection], Coroutine[Any, Any, object]]
Twin = Callable[[Connection], Coroutine[Any, Any, Any]]
PATTERN = re.compile(rb"(\w+)\r\n")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def tcp_server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


async def outcome_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except Exception as error:
        return error


def sends(data: bytes) -> Act:
    return lambda client, _: client.send(data)


async def closes(client: SocketStream, _: Connection) -> None:
    await client.aclose()


async def resets(client: SocketStream, conn: Connection) -> None:
    conn.reset()


# -- each twin waits for what its verb waits for

WAITS: dict[str, tuple[Twin, Act, Any]] = {
    "recv": (lambda conn: conn.aio.recv(9), sends(b"abc"), b"abc"),
    "recv_exactly": (lambda conn: conn.aio.recv_exactly(2), sends(b"abc"), b"ab"),
    "recv_until": (lambda conn: conn.aio.recv_until(b";"), sends(b"a;b"), b"a;"),
    "recv_line": (lambda conn: conn.aio.recv_line(), sends(b"a\nb"), b"a\n"),
    "recv_prefixed": (lambda conn: conn.aio.recv_prefixed("B"), sends(b"\2abc"), b"ab"),
    "recv_to_eof": (lambda conn: conn.aio.recv_to_eof(), closes, b""),
    "expect": (lambda conn: conn.aio.expect(b"abc"), sends(b"abcd"), b"abc"),
    "assert_received": (lambda conn: conn.aio.assert_received(b"abc"), sends(b"abc"), None),
    "contains": (lambda conn: conn.aio.assert_received(contains=b"b"), sends(b"abc"), None),
    "expect_eof": (lambda conn: conn.aio.expect_eof(), closes, None),
    "wait_eof": (lambda conn: conn.aio.wait_eof(), closes, None),
    "expect_nothing": (lambda conn: conn.aio.expect_nothing(within=FOREVER), closes, None),
    "wait_closed": (lambda conn: conn.aio.wait_closed(), resets, None),
}


@pytest.mark.parametrize("name", WAITS)
async def test_a_waiting_twin_lets_the_client_in_the_same_loop_run(
    tcp_server: TCPServer, name: str
) -> None:
    twin, act, expected = WAITS[name]
    outcomes: list[Any] = []

    async def wait() -> None:
        outcomes.append(await outcome_of(twin(await tcp_server.aio.accept(timeout=FOREVER))))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        async with await anyio.connect_tcp(*tcp_server.address) as client:
            await tcp_server.aio.wait_connections(1)
            await act(client, tcp_server.connections[0])
    assert outcomes == [expected]


FAILS: dict[str, tuple[Twin, Act, type[Exception]]] = {
    "expect": (lambda conn: conn.aio.expect(b"abc", timeout=FOREVER), sends(b"x"), MismatchError),
    "assert_received": (
        lambda conn: conn.aio.assert_received(b"abc", timeout=FOREVER),
        sends(b"x"),
        MismatchError,
    ),
    "expect_eof": (lambda conn: conn.aio.expect_eof(timeout=FOREVER), sends(b"x"), MismatchError),
    "expect_reset": (lambda conn: conn.aio.expect_reset(timeout=FOREVER), closes, MismatchError),
    "recv_line": (lambda conn: conn.aio.recv_line(timeout=FOREVER), closes, PeerGoneError),
    "recv": (lambda conn: conn.aio.recv(1, timeout=FOREVER), resets, EndpointClosedError),
}


@pytest.mark.parametrize("name", FAILS)
async def test_a_twin_fails_as_soon_as_its_verb_would(tcp_server: TCPServer, name: str) -> None:
    twin, act, kind = FAILS[name]
    async with await anyio.connect_tcp(*tcp_server.address) as client:
        conn = await tcp_server.aio.accept()
        outcomes: list[Any] = []

        async def wait() -> None:
            outcomes.append(await outcome_of(twin(conn)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await act(client, conn)
        assert [type(outcome) for outcome in outcomes] == [kind]


async def test_a_twin_says_as_its_verb_how_a_pattern_nearly_matches(tcp_server: TCPServer) -> None:
    async with await anyio.connect_tcp(*tcp_server.address) as client:
        conn = await tcp_server.aio.accept()
        await client.send(b"GET /a\r\n")
        error = await outcome_of(conn.aio.expect(re.compile(rb"GET .+\w"), until=b"\r\n"))
    assert str(error).splitlines()[-1] == (
        r"  the pattern matches without the separator b'\r\n', and has to match that too"
    )


IMPATIENT: dict[str, tuple[Any, ...]] = {
    "assert_received": (b"a",),
    "expect": (b"a",),
    "expect_eof": (),
    "expect_reset": (),
    "recv": (1,),
    "recv_until": (b"a",),
    "wait_closed": (),
    "wait_eof": (),
}


@pytest.mark.parametrize("name", IMPATIENT)
async def test_a_twin_says_what_its_verb_says(tcp_server: TCPServer, name: str) -> None:
    async with await anyio.connect_tcp(*tcp_server.address):
        conn = await tcp_server.aio.accept()
        with pytest.raises(WaitTimeout) as blocking:
            getattr(conn, name)(*IMPATIENT[name], timeout=0)
        with pytest.raises(WaitTimeout) as awaited:
            await getattr(conn.aio, name)(*IMPATIENT[name], timeout=0)
    assert str(blocking.value).startswith(str(awaited.value))
    assert "aio" not in str(awaited.value)


async def test_a_whole_conversation_between_two_recorded_ends(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    await server.aio.assert_connections(0)
    client = await sockets.aio.connect(server.address)
    conn = await server.aio.accept()
    assert isinstance(conn, Connection)
    await conn.aio.assert_nothing_received()
    await client.aio.send(b"HELLO\r\n")
    match = await conn.aio.expect(PATTERN, until=b"\r\n")
    assert match[1] == b"HELLO"
    await conn.aio.send(b"WORLD")
    await conn.aio.send_eof()
    assert await client.aio.recv_to_eof() == b"WORLD"
    await server.aio.assert_sent(b"WORLD")
    await server.aio.assert_received(b"HELLO\r\n")
    await client.aio.close()
    await conn.aio.expect_eof()
    await conn.aio.wait_closed()
    await server.aio.wait_closed(1)
    await server.aio.assert_connections(1)
    with pytest.raises(MismatchError):
        await server.aio.assert_nothing_received()


async def test_a_reset_is_expected_by_a_twin(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    client = await sockets.aio.connect(server.address)
    conn = await server.aio.accept()
    client.reset()
    await conn.aio.expect_reset()


async def test_connecting_raises_what_the_kernel_says(sockets: Sockets) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await sockets.aio.connect(bound.getsockname())


async def test_datagram_twins(sockets: Sockets) -> None:
    peer, other = sockets.udp_peer(), sockets.udp_peer()
    await peer.aio.assert_nothing_received()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: peer.aio.expect(b"one", timeout=FOREVER))
        tasks.start_soon(lambda: peer.aio.wait_datagrams(2, timeout=FOREVER))
        tasks.start_soon(lambda: peer.aio.assert_datagrams(2, max_size=3, timeout=FOREVER))
        tasks.start_soon(lambda: peer.aio.assert_received(b"one", b"two", timeout=FOREVER))
        await other.aio.send(b"one", to=peer.address)
        await other.aio.send(b"two", to=peer.address)
    await peer.aio.send(b"back")
    datagram = await other.aio.expect(b"back")
    assert datagram.source == peer.address
    with pytest.raises(MismatchError):
        await peer.aio.assert_received(b"two", b"one", timeout=FOREVER)


async def test_many_tasks_wait_at_once(tcp_server: TCPServer) -> None:
    async def talk(number: int) -> None:
        async with await anyio.connect_tcp(*tcp_server.address) as client:
            await client.send(b"%d\n" % number)
            assert await client.receive() == b"%d\n" % number

    async def answer() -> None:
        conn = await tcp_server.aio.accept()
        await conn.aio.send(await conn.aio.recv_line())
        await conn.aio.expect_eof()

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(answer)
            tasks.start_soon(talk, number)
    await tcp_server.aio.assert_connections(100)


# -- a blocking wait in a loop

BLOCKING: dict[str, Callable[[TCPServer], object]] = {
    "accept": lambda server: server.accept(timeout=0),
    "wait_connections": lambda server: server.wait_connections(1, timeout=0),
    "assert_received": lambda server: server.assert_received(b"x", timeout=0),
}


@pytest.mark.parametrize("verb", BLOCKING)
async def test_a_blocking_wait_that_starved_the_loop_names_the_twin(
    tcp_server: TCPServer, verb: str, anyio_backend: str
) -> None:
    with pytest.raises(WaitTimeout) as caught:
        BLOCKING[verb](tcp_server)
    assert str(caught.value).endswith(
        f"\n  this wait blocked the test's own {anyio_backend} event loop, so that nothing in it "
        f"could run meanwhile: use `await ….aio.{verb}(…)`"
    )


async def test_a_blocking_expect_that_starved_the_loop_names_its_twin(
    tcp_server: TCPServer,
) -> None:
    async with await anyio.connect_tcp(*tcp_server.address):
        conn = await tcp_server.aio.accept()
        with pytest.raises(WaitTimeout, match=r"use `await ….aio.expect\(…\)`$"):
            conn.expect(b"x", timeout=0)


def test_a_blocking_wait_without_a_loop_names_no_twin(tcp_server: TCPServer) -> None:
    with pytest.raises(WaitTimeout) as caught:
        tcp_server.accept(timeout=0)
    assert "aio" not in str(caught.value)


# -- twins and verbs

FACES = {
    kind: type(inspect.getattr_static(kind, "aio").fget(None))
    for kind in (Connection, StreamServer, DatagramPeer, Sockets)
}


def verbs_of(kind: type) -> dict[str, Any]:
    waiting = {name: value for name, value in inspect.getmembers(kind) if hasattr(value, "steps")}
    if kind is Connection:
        waiting["expect"] = Connection.expect  # overloaded, so written by hand
    if kind is DatagramPeer:
        # These never wait, and are there so that nobody has to know.
        waiting |= {"send": DatagramPeer.send, "send_fds": DatagramPeer.send_fds}
    return waiting


@pytest.mark.parametrize("kind", FACES)
def test_every_waiting_verb_has_a_twin_with_the_same_parameters(kind: type) -> None:
    face = FACES[kind](None)
    verbs = verbs_of(kind)
    twins = {name: getattr(face, name) for name in dir(face) if not name.startswith("_")}
    assert set(twins) == set(verbs)
    for name, verb in verbs.items():
        _, *parameters = inspect.signature(verb).parameters.values()
        assert [*inspect.signature(twins[name]).parameters.values()] == parameters, name
        assert inspect.iscoroutinefunction(twins[name])
        assert twins[name].__name__ == name
        assert twins[name].__doc__
