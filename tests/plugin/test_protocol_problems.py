"""An error of a protocol that `serve_protocol` runs fails its test, which has not looked."""

from __future__ import annotations

from inner_runs import Inner, reports

SERVERS = """
import asyncio, socket

class Fails(asyncio.Protocol):
    def data_received(self, data):
        raise LookupError(f"no answer to {data!r}")

async def fails(reader, writer):
    line = await reader.readline()
    raise LookupError(f"no answer to {line!r}")

async def leaves_when_cancelled(reader, writer):
    try:
        await reader.readline()
    except asyncio.CancelledError:
        raise LookupError("too late to matter")

def ask(server):
    with socket.create_connection(server.address) as client:
        client.sendall(b"question\\n")

def test_protocol(sockets):
    ask(sockets.serve_protocol(Fails))

def test_callback(sockets):
    ask(sockets.serve_protocol(fails))

def test_after_the_call_phase(sockets):
    server = sockets.serve_protocol(leaves_when_cancelled)
    client = sockets.connect(server.address)
    server.check()

def test_failed_already(sockets):
    ask(sockets.serve_protocol(Fails))
    assert False
"""


def test_an_error_fails_the_test_in_the_call_phase(run: Inner) -> None:
    result = run(SERVERS)
    result.assert_outcomes(failed=3, passed=1)
    shown = reports(result)
    assert sorted(shown) == ["test_callback", "test_failed_already", "test_protocol"]
    for report in shown.values():
        assert "LookupError: no answer to b'question\\n'" in report
        assert "failed on its own side: no answer to b'question\\n'" in report
        assert "reset sent" in report
