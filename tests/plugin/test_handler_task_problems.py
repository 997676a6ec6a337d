"""An error of a task that an `async def` handler has started fails its test."""

from __future__ import annotations

from inner_runs import Inner, reports

HANDLERS = """
import asyncio, socket

kept = []

async def fails(conn):
    line = await conn.recv_line()
    raise LookupError(f"no answer to {line!r}")

async def forgets(conn):
    asyncio.create_task(fails(conn))
    await conn.wait_eof()

async def keeps(conn):
    kept.append(asyncio.create_task(fails(conn)))
    await conn.wait_eof()

async def leaves(conn):
    asyncio.create_task(asyncio.Event().wait())

def ask(server):
    with socket.create_connection(server.address) as client:
        client.sendall(b"question\\n")

def test_forgotten(tcp_server):
    tcp_server.serve(forgets)
    ask(tcp_server)

def test_kept(tcp_server):
    tcp_server.serve(keeps)
    ask(tcp_server)

def test_left(tcp_server):
    tcp_server.serve(leaves)
    ask(tcp_server)
"""


def test_an_error_fails_the_test_in_the_call_phase(run: Inner) -> None:
    result = run(HANDLERS)
    result.assert_outcomes(failed=2, passed=1)
    shown = reports(result)
    assert sorted(shown) == ["test_forgotten", "test_kept"]
    for report in shown.values():
        assert "raise LookupError(f" in report
        assert "LookupError: no answer to b'question\\n'" in report
        assert "a task of handler" in report
    result.stdout.no_fnmatch_line("*never retrieved*")
