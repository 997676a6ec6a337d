"""trio code under test, without any other plugin."""

import pytest

trio = pytest.importorskip("trio", reason="this example is about trio")


async def greet(address, name):
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(f"hello, {name}\n".encode())
        return (await stream.receive_some()).decode().strip()


def test_a_scripted_conversation(tcp_server):
    tcp_server.script().expect(b"hello, Ann\n").send(b"hello yourself\n").expect_eof()

    assert trio.run(greet, tcp_server.address, "Ann") == "hello yourself"


def test_a_conversation(tcp_server):
    answers = []

    async def client():
        answers.append(await greet(tcp_server.address, "Ann"))

    async def conversation():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            with await tcp_server.aio.accept() as conn:
                await conn.aio.expect(b"hello, Ann\n")
                await conn.aio.send(b"hello yourself\n")
                await conn.aio.expect_eof()

    trio.run(conversation)
    assert answers == ["hello yourself"]
