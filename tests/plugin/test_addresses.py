"""The fixtures of held addresses, and tests that skip where a machine cannot do something."""

from __future__ import annotations

import re

from inner_runs import Inner, has_ipv6, needs

NAMES = ("blackhole_address", "refused_address", "reserved_port")


def test_addresses_are_held_when_the_fixtures_return_and_free_after_the_test(run: Inner) -> None:
    result = run(
        f"""
import asyncio
import socket
import pytest

@pytest.mark.parametrize("name", {NAMES})
def test_held(request, opened, name):
    held = request.getfixturevalue(name)
    assert held.host == "127.0.0.1"
    assert held.name == name
    with socket.socket() as sock, pytest.raises(OSError, match="in use"):
        sock.bind(held.address)
    opened.append(held)

def test_refused(refused_address):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(refused_address.address)

def test_blackhole(blackhole_address):
    with pytest.raises(TimeoutError):
        socket.create_connection(blackhole_address.address, timeout=0.1)

async def answer(reader, writer):
    writer.close()

async def serve(port):
    async with await asyncio.start_server(answer, port.host, port.port):
        reader, _ = await asyncio.open_connection(*port.address)
        assert await reader.read() == b""
        _.close()

def test_reserved(reserved_port):
    asyncio.run(serve(reserved_port))
""",
        "-W",
        "error",
        # Not bound: others may have taken their ports by then.
        conftest="""
import pytest

@pytest.fixture(autouse=True)
def opened():
    opened = []
    yield opened
    assert all(held.is_closed for held in opened)
""",
    )
    result.assert_outcomes(passed=6)


def test_the_marker_chooses_their_family(run_plain: Inner) -> None:
    result = run_plain(
        f"""
import pytest

@pytest.mark.sockets(family="ipv6")
@pytest.mark.parametrize("name", {NAMES})
def test_six(request, name):
    assert request.getfixturevalue(name).host == "::1"

@pytest.mark.sockets(family="unix")
def test_path(refused_address):
    assert refused_address.path

@pytest.mark.sockets(family="unix")
@pytest.mark.parametrize("name", ["blackhole_address", "reserved_port"])
def test_no_path(request, name):
    request.getfixturevalue(name)
"""
    )
    six = {"passed": 3} if has_ipv6() else {"skipped": 3}
    result.assert_outcomes(passed=six.pop("passed", 0) + 1, errors=0, failed=2, **six)
    result.stdout.fnmatch_lines(
        [f"*@pytest.mark.sockets: {name} cannot have family='unix'*" for name in NAMES[::2]]
    )


def test_a_machine_without_blackhole_skips_with_the_reason(run_plain: Inner) -> None:
    result = run_plain(
        "def test_it(blackhole_address): pass\n",
        "-rs",
        conftest="""
from pytest_sockets._engine import blackhole

blackhole.FILLERS = 1
""",
        apart=True,
    )
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * this kernel has no blackhole: a listening socket *"])


def test_a_requirement_that_is_not_met_skips_at_its_own_line(run: Inner) -> None:
    result = run(
        """
import pytest

@pytest.fixture
def needs_fast_time(sockets):
    sockets.require("ipv4", "reset")

def test_met(sockets):
    sockets.require("ipv4", "unix", "down")

def test_unmet(sockets):
    sockets.require("ipv4")
    sockets.require("reset")
    raise AssertionError("not reached")

def test_unmet_in_a_fixture(needs_fast_time):
    raise AssertionError("not reached")

def test_unknown(sockets):
    sockets.require("fly")
""",
        "-rs",
        conftest="""
from pytest_sockets._endpoints import capabilities

capabilities.capabilities._tests["reset"] = lambda: "no"
""",
        apart=True,
    )
    result.assert_outcomes(passed=1, skipped=2, failed=1)
    text = result.stdout.str()
    reason = "this machine cannot do 'reset': closing with SO_LINGER sends no RST"
    where = re.findall(rf"SKIPPED \[1\] (\S+): {reason}", text)
    # Of a fixture, pytest itself shows where the test begins.
    assert sorted(where) == ["test_it.py:12", "test_it.py:15"]
    assert "ValueError: 'fly' is no capability; there are send_apart, " in text


def test_pytest_socket_lets_a_test_reach_them(run_plain: Inner) -> None:
    needs("pytest_socket")
    result = run_plain(
        """
import socket
import pytest

def test_refused(refused_address):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(refused_address.address)

def test_reserved(reserved_port):
    reserved_port.socket.listen()
    socket.create_connection(reserved_port.address).close()
""",
        "--allow-hosts=192.0.2.1",
        plugins=["pytest_socket"],
    )
    result.assert_outcomes(passed=2)


def test_a_report_shows_when_a_server_was_down(run_plain: Inner) -> None:
    result = run_plain(
        """
def test_it(tcp_server):
    tcp_server.down()
    tcp_server.up()
    tcp_server.down()
    assert False
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"tcp_server  tcp 127\.0\.0\.1:\d+   0 connections, down",
            r"  \+0\.\d+  down: refuses connections",
            r"  \+0\.\d+  up: accepts connections",
            r"  \+0\.\d+  down: refuses connections",
        ],
        consecutive=True,
    )
