"""Where a report shows a problem: the test's line, the one-line summary, tests that come later."""

from __future__ import annotations

import re

import pytest

from inner_runs import Inner, reports

PROBLEM = "EndpointError: echo_server failed on its own side: broken"

ALONE = """
import pytest


@pytest.mark.usefixtures("tmp_path")
def test_alone(echo_server):
    echo_server._fail(RuntimeError("broken"))
"""


@pytest.mark.parametrize("style", ["auto", "long", "short", "line"])
def test_a_problem_that_no_line_has_raised_points_to_the_test(run_plain: Inner, style: str) -> None:
    result = run_plain(ALONE, f"--tb={style}")
    result.assert_outcomes(failed=1)
    path = re.escape(str(run_plain.pytester.path / "test_it.py"))
    shown = result.stdout.str()
    if style == "line":
        assert re.search(rf"^{path}:4: pytest_sockets\.{PROBLEM}$", shown, re.M)
    else:
        assert re.search(r"^test_it\.py:4: pytest_sockets\.EndpointError$", shown, re.M)
    assert "pluggy" not in shown.partition("collected")[2]


def test_a_failure_of_somebody_else_without_a_traceback_is_left_alone(run_plain: Inner) -> None:
    result = run_plain("""
import pytest

def test_by_hand(echo_server):
    pytest.fail("so be it", pytrace=False)
""")
    assert reports(result)["test_by_hand"].startswith("so be it\n")
    assert "test_it.py:" not in reports(result)["test_by_hand"]


def test_the_line_about_a_failed_test_begins_with_the_cause(
    run: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run("""
import pytest

def test_consequence(echo_server):
    echo_server._fail(RuntimeError("broken"))
    raise TimeoutError("timed out")

def test_assertion(echo_server):
    echo_server._fail(RuntimeError("broken"))
    assert echo_server.name == "client"

def test_raised(echo_server):
    echo_server._fail(RuntimeError("broken"))
    echo_server.accept()

def test_no_problem(echo_server):
    assert echo_server.name == "client"

@pytest.fixture
def broken(echo_server):
    echo_server._fail(RuntimeError("broken"))
    raise LookupError("set up")

def test_setup(broken):
    pass
""")
    lines = re.findall(r"^(?:FAILED|ERROR) test_it\.py::(\S+) - (.*)$", str(result.stdout), re.M)
    assert dict(lines) == {
        "test_consequence": f"{PROBLEM}; then TimeoutError: timed out",
        "test_assertion": "AssertionError: assert 'echo_server' == 'client'",
        "test_raised": f"pytest_sockets.{PROBLEM}",
        "test_no_problem": "AssertionError: assert 'echo_server' == 'client'",
        "test_setup": f"{PROBLEM}; then LookupError: set up",
    }


PLANNED = """
import socket
import pytest

clients = []

@pytest.fixture(autouse=True)
def close_clients():
    yield
    for client in clients:
        client.close()

def ask(server, *words):
    with socket.create_connection(server.address, timeout=30) as client:
        for word in words:
            client.sendall(word)
            client.recv(1)

def test_surplus(tcp_server):
    tcp_server.script().expect(b"A").send(b"1")
    with socket.create_connection(tcp_server.address) as client:
        client.sendall(b"A")
        assert client.recv(1) == b"1"
        client.sendall(b"B")
        raise TimeoutError("timed out")

def test_no_plan(tcp_server):
    tcp_server.script().expect(b"A").send(b"1").expect_eof()
    ask(tcp_server, b"A")
    with socket.create_connection(tcp_server.address):
        raise TimeoutError("timed out")

def test_steps_left(tcp_server):
    tcp_server.script().expect(b"A").send(b"1").expect(b"B")
    ask(tcp_server, b"A")

def test_steps_left_of_a_failed_one(tcp_server):
    tcp_server.script().expect(b"A").send(b"1").expect(b"B")
    tcp_server.script().expect(b"never")
    clients.append(socket.create_connection(tcp_server.address))
    clients[0].sendall(b"A")
    raise TimeoutError("timed out")

def test_not_strict(tcp_server):
    tcp_server.script(strict=False).expect(b"A")
    with socket.create_connection(tcp_server.address) as client:
        client.sendall(b"AB")
        raise TimeoutError("timed out")
"""


def test_what_a_failed_test_had_no_plan_for_is_noted_and_what_was_left_is_not(run: Inner) -> None:
    result = run(PLANNED)
    result.assert_outcomes(failed=5)
    shown = reports(result)
    timeout = r"E +TimeoutError: timed out\nE +also: tcp_server connection "
    surplus = r"0, after the last of 2 steps: expected nothing more, got b'B'"
    assert re.search(timeout + surplus, shown["test_surplus"])
    assert re.search(timeout + "1 had no plan: 1 script for 2 ", shown["test_no_plan"])
    assert "expected b'B'" in shown["test_steps_left"]
    for name in ("test_steps_left_of_a_failed_one", "test_not_strict"):
        assert "also" not in shown[name]
    for name in set(shown) - {"test_steps_left"}:
        assert "MismatchError" not in shown[name]
        assert "reset sent" not in shown[name], "fixtures may still need the connection"


@pytest.mark.parametrize("where", ["call", "teardown"])
def test_what_comes_on_the_way_out_is_noted_at_most(run: Inner, where: str) -> None:
    result = run(f"""
import socket
import pytest

@pytest.fixture
def client(tcp_server):
    tcp_server.script().expect(b"LOGIN").send(b"OK")
    with socket.create_connection(tcp_server.address) as client:
        client.sendall(b"LOGIN")
        assert client.recv(2) == b"OK"
        yield client
        if {where == "teardown"}:
            client.sendall(b"QUIT")

@pytest.mark.xfail(raises=AssertionError)
def test_it(client):
    try:
        assert 1 == 2
    finally:
        if {where == "call"}:
            client.sendall(b"QUIT")
""")
    result.assert_outcomes(xfailed=1)


def test_an_error_that_nothing_can_be_noted_on_stays_itself(run_plain: Inner) -> None:
    result = run_plain("""
import socket

class Frozen(Exception):
    def add_note(self, note):
        raise AttributeError("frozen")

def test_it(tcp_server):
    tcp_server.script().expect(b"A")
    with socket.create_connection(tcp_server.address) as client:
        client.sendall(b"AB")
        raise Frozen
""")
    result.assert_outcomes(failed=1)
    assert re.search("^E +test_it.Frozen$", reports(result)["test_it"], re.M)


def test_errors_of_several_fixtures_are_told_by_pytest(run: Inner) -> None:
    result = run("""
import pytest

@pytest.fixture
def one():
    yield
    raise ValueError("one")

@pytest.fixture
def two():
    yield
    raise ValueError("two")

def test_it(one, two):
    pass
""")
    result.assert_outcomes(passed=1, errors=1)
    for word in ("one", "two"):
        assert f"ValueError: {word}" in result.stdout.str()


def test_a_problem_of_an_earlier_test_is_noted_where_a_later_one_fails(run_plain: Inner) -> None:
    result = run_plain("""
import socket
import pytest
from pytest_sockets import TCPServer

@pytest.fixture(scope="module")
def shared():
    with TCPServer(name="shared") as server:
        server.on(b"PING", b"PONG")
        yield server

def ask(server, word):
    with socket.create_connection(server.address) as client:
        client.sendall(word)
        return client.recv(4)

def test_is_served(shared):
    assert ask(shared, b"PING") == b"PONG"

def test_breaks_it(shared):
    ask(shared, b"ZING")

def test_finds_it_broken(shared):
    ask(shared, b"PING")

def test_waits(shared):
    shared.accept()
    shared.accept()
    shared.accept()
    shared.accept()

def test_does_not_use_it(shared):
    assert shared.name == "other"
""")
    result.assert_outcomes(passed=1, failed=4)
    shown = reports(result)
    since = "shared has had a problem before this test: "
    told = "no rule answers b'ZING'"
    assert since not in shown["test_breaks_it"]
    assert told in shown["test_breaks_it"]
    assert re.search(f"ConnectionResetError.*\n.*{since}.*{told}", shown["test_finds_it_broken"])
    assert since not in shown["test_waits"]
    assert told in shown["test_waits"]
    assert since not in shown["test_does_not_use_it"]
