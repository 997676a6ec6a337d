"""Beside what limits, repeats and shuffles tests."""

from __future__ import annotations

import re

import pytest

from inner_runs import Inner, needs, reports

HANGS = """
import signal, socket
from pytest_sockets._engine.waiting import Wait

arm = Wait.arm

def arm_and_ring(wait, wake):
    arm(wait, wake)
    RING

def test_hangs(tcp_server, monkeypatch):
    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(b"HEL")
        conn = tcp_server.accept()
        monkeypatch.setattr(Wait, "arm", arm_and_ring)
        conn.recv_exactly(5, timeout=3600)
"""
# pytest-timeout's own timer, wound up anew once the wait has begun. It does not ring at once: a
# signal in the last instructions before the system call that blocks would not interrupt it.
RING = "signal.setitimer(signal.ITIMER_REAL, 0.05)"


def test_pytest_timeout_ends_a_wait_by_a_signal_and_the_wire_is_shown(run: Inner) -> None:
    needs("pytest_timeout")
    args = ("--timeout=3600", "--timeout-method=signal")
    result = run(HANGS.replace("RING", RING), *args, plugins=["timeout"], apart=True)
    result.assert_outcomes(failed=1)
    shown = reports(result)["test_hangs"]
    assert "Timeout (>3600.0s) from pytest-timeout" in shown
    assert "\n>           conn.recv_exactly(5, timeout=3600)\n" in shown
    assert " sockets: test_hangs (seed " in shown
    assert "#0 received    3  00000000  48 45 4c " in shown


def test_pytest_timeout_ends_a_wait_by_a_thread(run_plain: Inner) -> None:
    # It dumps all stacks and ends the process at once: no report of anything can follow.
    needs("pytest_timeout")
    args = ("--timeout=5", "--timeout-method=thread")  # long enough to get to the wait
    ini = "timeout_func_only = true"
    result = run_plain(
        HANGS.replace("RING", "pass"), *args, plugins=["timeout"], ini=ini, apart=True
    )
    assert result.ret == 1
    output = result.stdout.str() + result.stderr.str()
    assert "conn.recv_exactly(5, timeout=3600)" in output
    assert "pytest-sockets I/O" in output


SWEEPS = """
import asyncio, signal, socket
from pytest_sockets.faults import Stall

def ring():
    if len(runs) == 2:
        RING

def fetch(address):
    with socket.create_connection(address) as sock:
        ring()
        sock.recv(5, socket.MSG_WAITALL)

async def fetch_async(address):
    async with asyncio.TaskGroup() as group:
        reader, writer = await asyncio.open_connection(*address)
        ring()
        await group.create_task(reader.readexactly(5))
        writer.close()

runs = []

def test_hangs(sweep):
    def talk(sockets):
        runs.append(1)
        server = sockets.tcp_server()
        server.script().send(b"HELLO")
        if len(runs) <= 2:
            CLIENT(server.address)
    sweep(talk, Stall())

def test_it_went_no_further():
    assert len(runs) == 2
"""


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("client", "frame"),
    [
        ("fetch", "    def fetch(address):\n"),
        ("lambda address: asyncio.run(fetch_async(address))", ": in run_forever\n"),
    ],
)
def test_pytest_timeout_ends_a_sweep(run_plain: Inner, client: str, frame: str, told: bool) -> None:
    needs("pytest_timeout")
    args = ["--timeout=3600", "--timeout-method=signal"]
    if not told and hasattr(pytest, "Subtests"):
        args += ["-p", "no:subtests"]
    source = SWEEPS.replace("CLIENT", f"({client})").replace("RING", RING)
    result = run_plain(source, *args, plugins=["timeout"], apart=True)
    result.assert_outcomes(failed=1, passed=1)
    shown = reports(result)["test_hangs"]
    assert "Timeout (>3600.0s) from pytest-timeout" in shown
    assert frame in shown.partition("Failed: Timeout")[0]
    assert "run 1 of 5 of the sweep: Stall() at AfterSent(0) on tcp_server connection 0" in shown
    assert "sockets: test_hangs (seed " in shown


def test_pytest_randomly_changes_neither_seeds_nor_results(run: Inner) -> None:
    needs("pytest_randomly")
    source = """
import random
import pytest

@pytest.mark.parametrize("n", range(5))
def test_seed(n, sockets, echo_server):
    assert sockets.endpoints == (echo_server,)
    print("seed of it:", sockets.seed)
    assert False
"""
    shown = []
    for number in (1, 2):
        result = run(source, f"--randomly-seed={number}", plugins=["randomly"])
        lines = re.findall(r"^seed of it: .*", result.stdout.str(), re.MULTILINE)
        shown.append(sorted(lines))
    assert len(shown[0]) == 5
    assert shown[0] == shown[1]
    assert len(set(shown[0])) == 5


def test_pytest_rerunfailures_begins_each_attempt_afresh(run: Inner) -> None:
    needs("pytest_rerunfailures")
    result = run(
        """
import socket

attempts = []

def test_third_time(echo_server, sockets):
    assert sockets.endpoints == (echo_server,)
    assert echo_server.transcript == ()
    attempts.append(echo_server)
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"%d" % len(attempts))
        sock.recv(1)
    assert [server.is_closed for server in attempts] == [True] * (len(attempts) - 1) + [False]
    echo_server.assert_received(b"3")

def test_never(echo_server):
    attempts.append(echo_server)
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"%d" % attempts.count(echo_server))
    echo_server.assert_received(b"never")
""",
        "--reruns=2",
        plugins=["rerunfailures"],
    )
    result.assert_outcomes(passed=1, failed=1)
    assert reports(result)["test_never"].count("echo_server  tcp ") == 1
