"""Under a clock that a test has stopped or moved."""

from __future__ import annotations

import pytest

from inner_runs import Inner, needs, reports

STILL = """
import asyncio
import socket
import time
import pytest
from pytest_sockets import WaitTimeout

YEAR = 2001
real = time.clock_gettime

def waits_time_out(server):
    with pytest.raises(WaitTimeout):
        server.accept(timeout=0.01)

def wire_is_true(server):
    before = real(time.CLOCK_MONOTONIC)
    with socket.create_connection(server.address) as sock:
        sock.sendall(b"one")
        server.assert_received(b"one")
        sock.sendall(b"two")
        server.assert_received(b"onetwo")
    after = real(time.CLOCK_MONOTONIC)
    times = [event.time for event in server.transcript]
    assert len(times) > 2
    assert times == sorted(set(times))
    assert before <= times[0] < times[-1]
    assert all(time <= after for time in times[:3])

def awaited(server):
    async def main():
        with pytest.raises(WaitTimeout):
            await server.aio.accept(timeout=0.01)
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"hello")
        await (await server.aio.accept()).aio.expect(b"hello")
        writer.close()
        await writer.wait_closed()
    asyncio.run(main())
"""
FREEZEGUN = """
from freezegun import freeze_time

@freeze_time("2001-02-03")
def test_decorator(tcp_server):
    assert time.gmtime().tm_year == YEAR
    waits_time_out(tcp_server)
    wire_is_true(tcp_server)

def test_context_manager(tcp_server, sockets):
    with freeze_time("2001-02-03"):
        assert time.gmtime().tm_year == YEAR
        waits_time_out(tcp_server)
        wire_is_true(tcp_server)
        late = sockets.tcp_server()
        wire_is_true(late)
    waits_time_out(sockets.tcp_server())

@freeze_time("2001-02-03", real_asyncio=True)
def test_awaited(tcp_server):
    awaited(tcp_server)

@pytest.fixture
def frozen():
    with freeze_time("2001-02-03", tick=False) as clock:
        yield clock

def test_frozen_before_our_fixtures(frozen, tcp_server, udp_peer):
    waits_time_out(tcp_server)
    frozen.tick(3600)
    wire_is_true(tcp_server)

@freeze_time("2001-02-03")
def test_shows_true_times(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"x")
        sock.recv(1)
    assert False
"""
TIME_MACHINE = """
import time_machine

@time_machine.travel("2001-02-03", tick=False)
def test_decorator(tcp_server):
    assert time.gmtime().tm_year == YEAR
    waits_time_out(tcp_server)
    wire_is_true(tcp_server)

def test_context_manager(tcp_server):
    with time_machine.travel("2001-02-03", tick=False) as traveller:
        assert time.gmtime().tm_year == YEAR
        waits_time_out(tcp_server)
        traveller.shift(3600)
        wire_is_true(tcp_server)

@time_machine.travel("2001-02-03")
def test_awaited(tcp_server):
    awaited(tcp_server)

@time_machine.travel("2001-02-03", tick=False)
def test_shows_true_times(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"x")
        sock.recv(1)
    assert False
"""


@pytest.mark.parametrize(
    ("module", "source", "passed"), [("freezegun", FREEZEGUN, 4), ("time_machine", TIME_MACHINE, 3)]
)
def test_waits_end_and_times_are_true(run: Inner, module: str, source: str, passed: int) -> None:
    needs(module)
    result = run(STILL + source, "-W", "error")
    result.assert_outcomes(passed=passed, failed=1)
    shown = reports(result)["test_shows_true_times"]
    assert shown.count("  +TIME  #0 ") == 6
