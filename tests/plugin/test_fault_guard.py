"""A fault that met nothing fails its test, in the call phase."""

from __future__ import annotations

import re

from inner_runs import Inner, reports

GUARDED = """
import socket
import pytest
from pytest_sockets.faults import *

def test_met_nothing(echo_server):
    echo_server.fault(Reset(), at=AfterSent(50))
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b"hello"

def test_lifted(echo_server):
    with pytest.raises(ConnectionError):
        with echo_server.fault(Reset(), at=AfterSent(50)):
            raise ConnectionError

def test_failed_already(echo_server):
    echo_server.fault(Reset())
    assert 1 == 2

def test_allowed(echo_server):
    echo_server.fault(Reset(), must_hit=False)

def test_met(echo_server):
    echo_server.fault(HalfClose(), at=AfterSent(2))
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b"he"

def test_skipped(echo_server):
    echo_server.fault(Reset())
    pytest.skip("left alone")
"""


def test_a_fault_without_a_hit_fails_the_call_phase(run: Inner) -> None:
    result = run(GUARDED)
    result.assert_outcomes(failed=3, passed=2, skipped=1)
    shown = reports(result)
    assert "error" not in result.parseoutcomes()
    assert (
        "MismatchError: echo_server: the fault Reset() at AfterSent(50) met nothing: 1 connection: "
        "#0 sent 5 bytes and received 5; must_hit=False allows it"
    ) in shown["test_met_nothing"]
    assert "met nothing: there was no connection" in shown["test_lifted"]
    assert "assert 1 == 2" in shown["test_failed_already"]
    assert "met nothing" not in shown["test_failed_already"]


def test_the_report_shows_where_a_fault_acted_and_how_often(run: Inner) -> None:
    result = run(
        """
import socket
from pytest_sockets.faults import *

def test_it(echo_server):
    echo_server.fault(HalfClose(), at=AfterSent(2))
    echo_server.fault(Inject(b"x"), at=AfterSent(9), must_hit=False)
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b"hello"
"""
    )
    shown = reports(result)["test_it"]
    assert re.search(r"\n  HalfClose\(\) at AfterSent\(2\): 1 hit\n", shown)
    assert re.search(r"\n  Inject\(b'x'\) at AfterSent\(9\): 0 hits\n", shown)
    events = re.findall(r"#0 (\w+.*)", shown)
    assert events[3] == "FAULT HalfClose() at AfterSent(2): 2 bytes sent, 5 received"
    assert events[4] == "EOF sent"


def test_random_choices_are_those_of_the_tests_seed(run: Inner) -> None:
    source = """
import socket
from pytest_sockets.faults import *

def test_it(tcp_server):
    tcp_server.fault(Corrupt(16))
    with socket.create_connection(tcp_server.address) as sock:
        conn = tcp_server.accept()
        conn.send(bytes(16))
        print("drawn", sock.recv(16).hex())
    assert False
"""
    drawn = [
        re.findall(r"drawn (\w{32})", reports(run(source, *args))["test_it"])[0]
        for args in ([], [], ["--sockets-seed=5"], ["--sockets-seed=5"], ["--sockets-seed=6"])
    ]
    assert drawn[0] == drawn[1]
    assert drawn[2] == drawn[3]
    assert len(set(drawn)) == 3


def test_faults_are_their_own_ids(run_plain: Inner) -> None:
    result = run_plain(
        """
import pytest
from pytest_sockets.faults import *

@pytest.mark.parametrize("effect", [Reset(), Slice(3)])
@pytest.mark.parametrize("at", [AfterSent(5), AfterReceived(b"QUIT"), None])
def test_it(effect, at):
    pass
""",
        "--collect-only",
        "-q",
    )
    assert [line.partition("::")[2] for line in result.outlines if "::" in line] == [
        f"test_it[{at}-{effect}]"
        for at in ("AfterSent(5)", "AfterReceived(b'QUIT')", "None")
        for effect in ("Reset()", "Slice(3)")
    ]
