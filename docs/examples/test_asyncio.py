"""asyncio code under test, without any other plugin."""

import asyncio

import pytest


async def greet(address, name):
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"hello, {name}\n".encode())
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


def test_an_echo(echo_server):
    assert asyncio.run(greet(echo_server.address, "Ann")) == "hello, Ann"
    echo_server.assert_received(b"hello, Ann\n")


def test_a_scripted_conversation(tcp_server):
    tcp_server.script().expect(b"hello, Ann\n").send(b"hello yourself\n").expect_eof()

    assert asyncio.run(greet(tcp_server.address, "Ann")) == "hello yourself"


async def be_friendly(server):
    with await server.aio.accept() as conn:
        await conn.aio.expect(b"hello, Ann\n")
        await conn.aio.send(b"hello yourself\n")
        await conn.aio.expect_eof()


def test_a_conversation(tcp_server):
    async def conversation():
        return await asyncio.gather(greet(tcp_server.address, "Ann"), be_friendly(tcp_server))

    answer, _ = asyncio.run(conversation())
    assert answer == "hello yourself"


def test_a_cancelled_client_closes_its_connection(tcp_server, sockets):
    asked = sockets.gate(name="asked")
    tcp_server.script().expect(b"hello, Ann\n").hold(asked).expect_eof()

    async def cancel_it():
        client = asyncio.create_task(greet(tcp_server.address, "Ann"))
        await asked.aio.wait_reached()
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        asked.release()

    asyncio.run(cancel_it())


async def answer(reader, writer):
    line = await reader.readline()
    writer.write(line.upper())
    writer.close()
    await writer.wait_closed()


def test_a_server(sockets):
    async def serve_and_ask():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            with await sockets.aio.connect(address) as client:
                await client.aio.send(b"hello\n")
                await client.aio.expect(b"HELLO\n")
                await client.aio.expect_eof()

    asyncio.run(serve_and_ask())
