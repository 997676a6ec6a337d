"""Problems told once: in reruns, wider fixtures, unittest classes, interrupted and inner runs."""

from __future__ import annotations

import re

import pytest

from inner_runs import Inner, reports

UNITTEST = """
import unittest
import pytest

class Boom(Exception):
    pass

@pytest.mark.usefixtures("sockets")
class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _bring(self, echo_server, tcp_server):
        self.server = echo_server
        self.planned = tcp_server
        yield

    def test_passes(self):
        self.server._fail(Boom("first"))

    def test_fails(self):
        self.server._fail(Boom("first"))
        self.assertEqual(1, 2)

    def test_fails_before_the_last_step(self):
        self.planned.script().expect(b"never")
        self.assertEqual(1, 2)

    def test_skips(self):
        self.server._fail(Boom("first"))
        self.skipTest("left alone")

    def test_is_fine(self):
        self.server.assert_connections(0)
"""


def test_problems_fail_the_tests_of_a_unittest_class_too(run: Inner) -> None:
    result = run(UNITTEST)
    result.assert_outcomes(failed=3, skipped=1, passed=1)
    shown = reports(result)
    assert "MismatchError" not in shown["TestCase.test_fails_before_the_last_step"]
    problem = "EndpointError: echo_server failed on its own side: first"
    assert problem in shown["TestCase.test_passes"]
    cause, _, failure = shown["TestCase.test_fails"].rpartition("\nThe above exception was")
    assert problem in cause
    assert "AssertionError: 1 != 2" in failure


def test_a_problem_of_an_earlier_attempt_does_not_fail_a_rerun(run: Inner) -> None:
    result = run(
        """
import pytest
from pytest_sockets import EchoServer

@pytest.fixture(scope="module")
def shared():
    with EchoServer(name="shared") as server:
        yield server

attempts = []

def test_second_time_lucky(echo_server, shared):
    attempts.append(echo_server)
    if len(attempts) == 1:
        echo_server._fail(RuntimeError("first attempt"))
        shared._fail(RuntimeError("first attempt"))
    else:
        assert not echo_server.problems
        assert attempts[0].is_closed

def test_never_lucky(echo_server):
    echo_server._fail(RuntimeError("every attempt"))
""",
        "--reruns=1",
        plugins=["rerunfailures"],
    )
    result.assert_outcomes(passed=1, failed=1, errors=0)
    result.stdout.fnmatch_lines("*1 failed, 1 passed, *2 rerun*")
    assert reports(result)["test_never_lucky"].count("every attempt") == 3


def test_a_problem_that_failed_a_test_is_not_raised_again_by_the_users_own_fixture(
    run: Inner,
) -> None:
    result = run("""
import pytest
from pytest_sockets import EchoServer, Sockets

@pytest.fixture(scope="session")
def shared():
    with EchoServer(name="shared") as server:
        yield server

@pytest.fixture
def several():
    with Sockets() as sockets:
        yield sockets

def test_fails(shared, several):
    several.udp_peer()._fail(RuntimeError("second"))
    shared._fail(RuntimeError("third"))

def test_uses_it_later(shared):
    pass

def test_late(several):
    several.tcp_server()

@pytest.fixture
def after(several):
    yield
    several.tcp_server()._fail(RuntimeError("after the call phase"))

def test_only_the_fixture_can_tell(after):
    pass
""")
    result.assert_outcomes(failed=1, passed=3, errors=1)
    shown = reports(result)
    assert sorted(shown) == ["ERROR at teardown of test_only_the_fixture_can_tell", "test_fails"]
    assert "udp_peer failed on its own side: second" in shown["test_fails"]
    assert "also: shared failed on its own side: third" in shown["test_fails"]


def test_check_raises_the_oldest_problem_of_all_endpoints_and_has_told_it(run_plain: Inner) -> None:
    result = run_plain("""
import pytest
from pytest_sockets import EndpointError

def test_expects(sockets, tcp_server, udp_peer):
    sockets.check()
    udp_peer._fail(RuntimeError("first"))
    tcp_server._fail(RuntimeError("second"))
    with pytest.raises(EndpointError, match="udp_peer .*: first") as caught:
        sockets.check()
    assert caught.value.__notes__ == ["also: tcp_server failed on its own side: second"]
    with pytest.raises(EndpointError, match="second"):
        tcp_server.check()

def test_has_one_more(tcp_server):
    tcp_server._fail(RuntimeError("first"))
    with pytest.raises(EndpointError, match="first"):
        tcp_server.check()
    tcp_server._fail(RuntimeError("second"))
""")
    result.assert_outcomes(passed=1, failed=1)
    shown = reports(result)["test_has_one_more"]
    assert "EndpointError: tcp_server failed on its own side: second" in shown
    assert "first" not in shown.partition("\n---")[0]


def test_an_interrupt_stays_one(run_plain: Inner) -> None:
    result = run_plain(
        """
def test_interrupted(echo_server):
    echo_server._fail(RuntimeError("first"))
    raise KeyboardInterrupt
""",
        apart=True,
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*KeyboardInterrupt*")
    result.stdout.no_fnmatch_line("*failed*")


def test_a_run_inside_a_test_keeps_its_endpoints_to_itself(run_plain: Inner) -> None:
    result = run_plain(
        """
pytest_plugins = ["pytester"]

def test_outer(pytester, echo_server):
    pytester.makepyfile(
        '''
        def test_inner(udp_peer):
            udp_peer._fail(RuntimeError("inner"))
        '''
    )
    result = pytester.runpytest_inprocess("-p", "sockets")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("udp_peer  udp *")
    assert not echo_server.connections, "fine so far"
    assert False
""",
        "--show-capture=no",
    )
    result.assert_outcomes(failed=1)
    shown = reports(result)["test_outer"]
    assert "echo_server  tcp " in shown
    assert "udp_peer  udp 127.0.0.1:" not in shown
    assert "EndpointError" not in shown


def test_a_problem_of_a_longer_lived_endpoint_belongs_to_the_test_that_caused_it(
    run_plain: Inner,
) -> None:
    result = run_plain(
        """
import socket, threading
import pytest
from pytest_sockets import UDPPeer

@pytest.fixture(scope="session")
def shared():
    with UDPPeer(name="first") as first, UDPPeer(name="shared") as shared:
        shared.on(b"PING", b"PONG")
        yield shared

@pytest.fixture
def unread(shared, monkeypatch):
    # The I/O thread is too busy to read what comes, until somebody asks whether it has.
    is_held, is_asked = threading.Event(), threading.Event()
    engine = shared._engine
    settled = engine.settled

    def ask(deadline):
        is_asked.set()
        return settled(deadline)

    def hold():
        is_held.set()
        is_asked.wait()

    engine.post(hold)
    is_held.wait()
    monkeypatch.setattr(engine, "settled", ask)
    yield
    is_asked.set()

def test_opens_it(shared):
    pass

def test_guilty(shared, unread):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"junk", shared.address)

def test_innocent():
    pass
"""
    )
    result.assert_outcomes(failed=1, passed=2)
    shown = reports(result)["test_guilty"]
    assert re.search(r"MismatchError: shared, a datagram from .*: no rule answers b'junk'", shown)
    assert "received    4  00000000  6a 75 6e 6b " in shown
