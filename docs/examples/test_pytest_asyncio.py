"""asyncio code under test with pytest-asyncio."""

import asyncio

import pytest

pytest.importorskip("pytest_asyncio", reason="this example is about pytest-asyncio")


async def greet(address, name):
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"hello, {name}\n".encode())
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.asyncio
async def test_a_scripted_conversation(tcp_server):
    tcp_server.script().expect(b"hello, Ann\n").send(b"hello yourself\n").expect_eof()

    assert await greet(tcp_server.address, "Ann") == "hello yourself"
    await tcp_server.aio.assert_received(b"hello, Ann\n")


@pytest.mark.asyncio
async def test_a_conversation(tcp_server):
    client = asyncio.create_task(greet(tcp_server.address, "Ann"))

    with await tcp_server.aio.accept() as conn:
        await conn.aio.expect(b"hello, Ann\n")
        await conn.aio.send(b"hello yourself\n")

    assert await client == "hello yourself"
