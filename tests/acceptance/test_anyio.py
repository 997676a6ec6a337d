"""anyio's tests of TCP streams: one that the server resets, one that it reads to EOF."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from mutants import expecting, mutations
from pytest_sockets import Sockets, TCPServer, WaitTimeout

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    "family",
    [
        pytest.param("ipv4", marks=pytest.mark.sockets(family="ipv4")),
        pytest.param("ipv6", marks=pytest.mark.sockets(family="ipv6")),
    ],
)
@expecting(ConnectionResetError, BrokenPipeError)
async def test_receive_exception_cause_preserved(
    tcp_server: TCPServer, expected: type[OSError], outcome: Any
) -> None:
    async with await anyio.connect_tcp(*tcp_server.address) as stream:
        (await tcp_server.aio.accept()).reset()
        with pytest.raises(anyio.BrokenResourceError) as raised:
            await stream.receive()
    with outcome():
        assert isinstance(raised.value.__cause__, expected)


@mutations(
    (".reset()", ".close()", "EndOfStream"),
    ("ConnectionResetError", "BrokenPipeError", r"isinstance.*\s[\s|^~]+AssertionError\b"),
    (".hold(gate)", "", "nobody came|All connection attempts failed"),
    ("gate.release()", "await stream.aclose()", "ClosedResourceError"),
)
async def test_receive_exception_cause_preserved_by_script(
    sockets: Sockets, tcp_server: TCPServer
) -> None:
    async def receive() -> None:
        with pytest.raises(anyio.BrokenResourceError) as raised:
            await stream.receive()
        assert isinstance(raised.value.__cause__, ConnectionResetError)

    gate = sockets.gate()
    tcp_server.script().hold(gate).reset()
    async with await anyio.connect_tcp(*tcp_server.address) as stream:
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await gate.aio.wait_reached()
            gate.release()


@expecting(b"hello, world\n", b"hello, moon\n")
async def test_send_eof(tcp_server: TCPServer, expected: bytes, outcome: Any) -> None:
    async with await anyio.connect_tcp(*tcp_server.address) as client:
        await client.send(b"hello, ")
        await client.send(b"world\n")
        await client.send_eof()
        conn = await tcp_server.aio.accept()
        await conn.aio.send((await conn.aio.recv_to_eof())[::-1])
        await conn.aio.close()
        response = await client.receive()
    with outcome():
        assert response == expected[::-1]
        await conn.aio.assert_received(expected)


async def test_send_eof_is_missed_when_it_is_not_sent(tcp_server: TCPServer) -> None:
    async with await anyio.connect_tcp(*tcp_server.address) as client:
        await client.send(b"hello, world\n")
        conn = await tcp_server.aio.accept()
        with pytest.raises(WaitTimeout, match="EOF"):
            await conn.aio.recv_to_eof(timeout=0.01)
