"""anyio code under test with its pytest plugin, on asyncio and on trio."""

import pytest

anyio = pytest.importorskip("anyio", reason="this example is about anyio")
pytest.importorskip("trio", reason="this example runs on trio too")


async def greet(address, name):
    async with await anyio.connect_tcp(*address) as stream:
        await stream.send(f"hello, {name}\n".encode())
        return (await stream.receive()).decode().strip()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.anyio
async def test_a_scripted_conversation(tcp_server):
    tcp_server.script().expect(b"hello, Ann\n").send(b"hello yourself\n").expect_eof()

    assert await greet(tcp_server.address, "Ann") == "hello yourself"


@pytest.mark.anyio
async def test_a_client_that_gives_up(tcp_server, sockets):
    asked = sockets.gate(name="asked")
    tcp_server.script().expect(b"hello, Ann\n").hold(asked).expect_eof()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(greet, tcp_server.address, "Ann")
        await asked.aio.wait_reached()
        tasks.cancel_scope.cancel()
    asked.release()


@pytest.mark.anyio
async def test_a_conversation(tcp_server):
    async with anyio.create_task_group() as tasks:

        @tasks.start_soon
        async def client():
            assert await greet(tcp_server.address, "Ann") == "hello yourself"

        with await tcp_server.aio.accept() as conn:
            await conn.aio.expect(b"hello, Ann\n")
            await conn.aio.send(b"hello yourself\n")
