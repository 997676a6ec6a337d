"""The same fixtures in sync, asyncio, anyio and trio tests."""

from __future__ import annotations

import pytest

from inner_runs import Inner, needs, reports

ASYNCIO = """
import asyncio
import pytest

MARK

async def test_stream(tcp_server):
    reader, writer = await asyncio.open_connection(*tcp_server.address)
    conn = await tcp_server.aio.accept()
    writer.write(b"hello")
    await conn.aio.expect(b"hello")
    await conn.aio.send(b"bye")
    assert await reader.readexactly(3) == b"bye"
    writer.close()
    await writer.wait_closed()
    await conn.aio.expect_eof()

@pytest.fixture
async def client(echo_server):
    reader, writer = await asyncio.open_connection(*echo_server.address)
    yield reader, writer
    writer.close()
    await writer.wait_closed()

async def test_an_async_fixture_on_ours(client, echo_server):
    reader, writer = client
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await echo_server.aio.assert_received(b"hello")

async def test_cancelled_wait(tcp_server):
    waiting = asyncio.create_task(tcp_server.aio.accept())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    _, writer = await asyncio.open_connection(*tcp_server.address)
    await tcp_server.aio.accept()
    writer.close()
    await writer.wait_closed()

async def test_connect(sockets, echo_server):
    conn = await sockets.aio.connect(echo_server.address)
    await conn.aio.send(b"hello")
    await conn.aio.expect(b"hello")

def test_sync_beside_them(tcp_server):
    tcp_server.assert_connections(0)
"""


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_pytest_asyncio(run: Inner, mode: str) -> None:
    needs("pytest_asyncio")
    source = ASYNCIO.replace("MARK", "")
    if mode == "strict":
        source = source.replace("async def test_", "@pytest.mark.asyncio\nasync def test_")
        source = source.replace("@pytest.fixture", "@pytest_asyncio.fixture")
        source = f"import pytest_asyncio\n{source}"
    ini = f"asyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function"
    run(source, "-W", "error", plugins=["pytest_asyncio.plugin"], ini=ini).assert_outcomes(passed=5)


ANYIO = """
import anyio
import pytest

pytestmark = pytest.mark.anyio

async def test_stream(tcp_server):
    stream = await anyio.connect_tcp(*tcp_server.address)
    async with stream:
        conn = await tcp_server.aio.accept()
        await stream.send(b"hello")
        await conn.aio.expect(b"hello")
        await conn.aio.send(b"bye")
        assert await stream.receive() == b"bye"
    await conn.aio.expect_eof()

async def test_cancelled_wait(tcp_server):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await tcp_server.aio.accept()
    assert scope.cancelled_caught
    async with await anyio.connect_tcp(*tcp_server.address):
        await tcp_server.aio.accept()

@pytest.fixture
async def client(echo_server):
    async with await anyio.connect_tcp(*echo_server.address) as stream:
        yield stream

async def test_an_async_fixture_on_ours(client, echo_server):
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await echo_server.aio.assert_received(b"hello")
"""


def test_anyio(run: Inner) -> None:
    needs("anyio")
    needs("trio")
    run(ANYIO, "-W", "error", plugins=["anyio"]).assert_outcomes(passed=6)


def test_trio_run(run: Inner) -> None:
    needs("trio")
    run(
        """
import trio

def test_stream(tcp_server):
    async def main():
        stream = await trio.open_tcp_stream(*tcp_server.address)
        async with stream:
            conn = await tcp_server.aio.accept()
            await stream.send_all(b"hello")
            await conn.aio.expect(b"hello")
        await conn.aio.expect_eof()
    trio.run(main)
""",
        "-W",
        "error",
    ).assert_outcomes(passed=1)


def test_a_problem_fails_an_async_test_in_its_call_phase(run: Inner) -> None:
    needs("pytest_asyncio")
    result = run(
        """
import asyncio
import pytest

async def test_passes(echo_server):
    echo_server._fail(RuntimeError("its own side"))

async def test_waits(echo_server):
    waiting = asyncio.create_task(echo_server.aio.wait_connections(1))
    await asyncio.sleep(0)
    echo_server._fail(RuntimeError("its own side"))
    await waiting

async def test_mismatch(echo_server):
    _, writer = await asyncio.open_connection(*echo_server.address)
    writer.write(b"PING 2")
    writer.close()
    await writer.wait_closed()
    await echo_server.aio.assert_received(b"PING 1")
""",
        plugins=["pytest_asyncio.plugin"],
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    result.assert_outcomes(failed=3)
    shown = reports(result)
    for name in ("test_passes", "test_waits"):
        assert shown[name].count("EndpointError: echo_server failed on its own side") == 1
    assert '\n>       await echo_server.aio.assert_received(b"PING 1")\n' in shown["test_mismatch"]
    assert "pytest_sockets/" not in shown["test_mismatch"]
    assert " sockets: test_mismatch (seed " in shown["test_mismatch"]


def test_a_blocking_wait_in_a_loop_that_times_out_names_its_twin(run_plain: Inner) -> None:
    needs("pytest_asyncio")
    result = run_plain(
        """
async def test_blocks(tcp_server):
    tcp_server.accept(timeout=0)
""",
        plugins=["pytest_asyncio.plugin"],
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    assert "use `await ….aio.accept(…)`" in reports(result)["test_blocks"]
