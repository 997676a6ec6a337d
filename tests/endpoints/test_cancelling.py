import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from pytest_sockets import Connection, Sockets, TCPServer
from stream_ends import FOREVER, plain_client, read_to_eof

LARGE = bytes(8 * 1024 * 1024)
ROUNDS = 200

pytestmark = [pytest.mark.timeout(120), pytest.mark.anyio]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def tcp_server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


@pytest.fixture
def client(tcp_server: TCPServer) -> Iterator[Any]:
    with plain_client(tcp_server.address) as client:
        yield client


@pytest.fixture
def conn(tcp_server: TCPServer, client: Any) -> Connection:
    return tcp_server.accept()


async def cancelled(twin: Callable[[], Awaitable[object]], act: Callable[[], object]) -> list[Any]:
    """Cancel a twin right after `act`, which may or may not have let it finish."""
    results: list[Any] = []

    async def wait() -> None:
        with scope:
            results.append(await twin())

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        act()
        scope.cancel()
    return results


WAITING: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "recv_exactly": lambda conn: conn.aio.recv_exactly(10, timeout=FOREVER),
    "recv_until": lambda conn: conn.aio.recv_until(b"9", timeout=FOREVER),
    "recv_line": lambda conn: conn.aio.recv_line(timeout=FOREVER),
    "recv_to_eof": lambda conn: conn.aio.recv_to_eof(timeout=FOREVER),
    "expect": lambda conn: conn.aio.expect(b"0123456789", timeout=FOREVER),
    "assert_received": lambda conn: conn.aio.assert_received(b"0123456789", timeout=FOREVER),
    "wait_eof": lambda conn: conn.aio.wait_eof(timeout=FOREVER),
}


@pytest.mark.parametrize("name", WAITING)
async def test_a_cancelled_twin_leaves_all_bytes_to_the_next(
    conn: Connection, client: Any, name: str
) -> None:
    client.sendall(b"01234")
    conn.assert_received(b"01234")
    assert await cancelled(lambda: WAITING[name](conn), lambda: None) == []
    client.sendall(b"56789")
    assert await conn.aio.recv_exactly(10) == b"0123456789"


async def test_a_byte_goes_to_the_cancelled_twin_or_to_the_next_never_to_neither(
    conn: Connection, client: Any
) -> None:
    for number in range(ROUNDS):
        byte = bytes([number])
        taken: list[bytes] = []
        scope = anyio.CancelScope()

        async def take(scope: anyio.CancelScope = scope, taken: list[bytes] = taken) -> None:
            with scope:
                taken.append(await conn.aio.recv(1, timeout=FOREVER))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await anyio.lowlevel.checkpoint()
            client.sendall(byte)
            scope.cancel()
        if not taken:
            taken.append(await conn.aio.recv(1))
        assert taken == [byte]
    assert conn.received == bytes(range(ROUNDS))


async def test_a_connection_goes_to_the_cancelled_accept_or_to_the_next(
    tcp_server: TCPServer,
) -> None:
    def connect() -> None:
        plain_client(tcp_server.address).close()

    for number in range(10):
        taken = await cancelled(partial(tcp_server.aio.accept, timeout=FOREVER), connect)
        conn = taken[0] if taken else await tcp_server.aio.accept()
        assert conn.index == number


async def test_a_datagram_goes_to_the_cancelled_expect_or_to_the_next(sockets: Sockets) -> None:
    peer, other = sockets.udp_peer(), sockets.udp_peer()
    for number in range(10):
        content = b"%d" % number
        taken = await cancelled(
            partial(peer.aio.expect, content, timeout=FOREVER),
            partial(other.send, content, to=peer.address),
        )
        if not taken:
            await peer.aio.expect(content)
    peer.assert_datagrams(10)


async def test_what_a_cancelled_send_has_queued_still_goes_out(
    conn: Connection, client: Any
) -> None:
    assert await cancelled(lambda: conn.aio.send(LARGE, timeout=FOREVER), lambda: None) == []
    assert len(conn.sent) < len(LARGE)
    assert await cancelled(lambda: conn.aio.close(timeout=FOREVER), lambda: None) == []
    assert await anyio.to_thread.run_sync(read_to_eof, client) == LARGE
    conn.assert_sent(LARGE)


async def test_a_cancelled_connect_leaves_no_socket_behind(sockets: Sockets) -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # takes one connection; SYNs after it are dropped (listen(2), Linux)
        filler.connect(full.getsockname())
        # An unclosed one would be a ResourceWarning, which fails the test.
        address = full.getsockname()
        connecting = partial(sockets.aio.connect, address, timeout=FOREVER)
        assert await cancelled(connecting, lambda: None) == []
    assert sockets.endpoints == ()


def test_a_twin_whose_loop_has_ended_disturbs_nobody(conn: Connection, client: Any) -> None:
    waiting: list[asyncio.Task[bytes]] = []

    async def leave_it_waiting() -> None:
        waiting.append(asyncio.ensure_future(conn.aio.recv(1, timeout=FOREVER)))
        await asyncio.sleep(0)

    asyncio.run(leave_it_waiting())
    assert waiting[0].cancelled()
    client.sendall(b"x")
    assert conn.recv(1) == b"x"
    conn.endpoint.check()
