"""A problem is what goes wrong on an endpoint's own side."""

from __future__ import annotations

import re

import pytest

from inner_runs import Inner, reports

PASSED_SO_FAR = """
import pytest

class Boom(Exception):
    pass

def test_alone(echo_server):
    echo_server._fail(Boom("first"))

def test_several(tcp_server, echo_server):
    echo_server._fail(Boom("first"))
    tcp_server._fail(Boom("second"))
    echo_server._fail(Boom("third"))

@pytest.fixture
def failing(udp_peer):
    udp_peer._fail(Boom("in setup"))

def test_setup(failing):
    pass

@pytest.mark.xfail(raises=ZeroDivisionError)
def test_other_type_than_expected(echo_server):
    echo_server._fail(Boom("first"))

def test_skip(echo_server):
    echo_server._fail(Boom("first"))
    pytest.skip("left alone")

@pytest.fixture
def failing_late(echo_server):
    yield
    echo_server._fail(Boom("too late to matter"))

def test_after_the_call_phase(failing_late):
    pass
"""


def test_a_problem_fails_the_call_phase_of_a_test_that_passed_so_far(run: Inner) -> None:
    result = run(PASSED_SO_FAR)
    result.assert_outcomes(failed=4, skipped=1, passed=1)
    shown = reports(result)
    assert sorted(shown) == [
        "test_alone",
        "test_other_type_than_expected",
        "test_setup",
        "test_several",
    ]
    for name, endpoint, why in (
        ("test_alone", "echo_server", "first"),
        ("test_setup", "udp_peer", "in setup"),
        ("test_other_type_than_expected", "echo_server", "first"),
    ):
        first, _, last = shown[name].partition("\nThe above exception was the direct cause")
        assert first.strip().endswith(f"Boom: {why}")
        assert f"E   pytest_sockets.EndpointError: {endpoint} failed on its own side: {why}" in last
    assert re.search(
        r"EndpointError: echo_server failed on its own side: first\n"
        r".   also: tcp_server failed on its own side: second\n"
        r".   also: echo_server failed on its own side: third\n",
        shown["test_several"],
    )


FAILED_ALREADY = """
import pytest

class Boom(Exception):
    pass

def test_assertion(echo_server):
    echo_server._fail(Boom("first"))
    assert 1 == 2

def test_chain(tcp_server, echo_server):
    echo_server._fail(Boom("first"))
    tcp_server._fail(Boom("second"))
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error

def test_by_hand(echo_server):
    echo_server._fail(Boom("first"))
    pytest.fail("by hand")

def test_without_traceback(echo_server):
    echo_server._fail(Boom("first"))
    pytest.fail("by hand", pytrace=False)

def test_raised_by_a_wait(tcp_server, echo_server):
    echo_server._fail(Boom("first"))
    tcp_server._fail(Boom("second"))
    echo_server.wait_connections(1)

def test_raised_by_a_wait_though_not_the_first(tcp_server, echo_server):
    tcp_server._fail(Boom("second"))
    echo_server._fail(Boom("first"))
    echo_server.wait_connections(1)

@pytest.fixture
def broken(echo_server):
    echo_server._fail(Boom("first"))
    raise LookupError("broken")

def test_setup(broken):
    pass

@pytest.fixture
def broken_late(echo_server):
    yield
    echo_server._fail(Boom("first"))
    raise LookupError("broken")

def test_teardown(broken_late):
    pass

@pytest.mark.xfail(raises=ZeroDivisionError)
def test_expected_type(echo_server):
    echo_server._fail(Boom("first"))
    1 / 0
"""


def test_a_problem_is_the_root_cause_of_a_failure_that_keeps_its_type(run: Inner) -> None:
    result = run(FAILED_ALREADY)
    result.assert_outcomes(failed=6, errors=2, passed=1, xfailed=1)
    shown = reports(result)
    for name, *causes in (
        ("test_assertion", "EndpointError: echo_server", "AssertionError"),
        ("test_chain", "EndpointError: echo_server", "KeyError", "ValueError"),
        ("test_by_hand", "EndpointError: echo_server", "Failed: by hand"),
        ("test_without_traceback", "echo_server failed on its own side", "by hand"),
        ("test_raised_by_a_wait", "EndpointError: echo_server"),
        ("test_raised_by_a_wait_though_not_the_first", "EndpointError: echo_server"),
        ("ERROR at setup of test_setup", "EndpointError: echo_server", "LookupError"),
        ("ERROR at teardown of test_teardown", "EndpointError: echo_server", "LookupError"),
    ):
        first, *links = shown[name].split("\nThe above exception was the direct cause of")
        assert "Boom: first" in first, shown[name]
        # pytest 8 shows the cause of an exception without a traceback twice.
        assert len(links) == len(causes) or pytest.version_tuple < (9,), shown[name]
        for link, cause in zip(links[-len(causes) :], causes, strict=True):
            assert cause in link, shown[name]
        assert shown[name].count("echo_server failed on its own side: first") == 1
    told_beside = [name for name in shown if name.startswith(("test_chain", "test_raised_by"))]
    assert len(told_beside) == 3
    for name in told_beside:
        assert "also: tcp_server failed on its own side: second" in shown[name]


EXHAUSTED = """
import os, resource, socket
import pytest

def test_out_of_descriptors(echo_server):
    with socket.socket() as client:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            client.connect(echo_server.address)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
"""


def test_a_server_out_of_file_descriptors_fails_its_test(run: Inner) -> None:
    result = run(EXHAUSTED, apart=True)
    result.assert_outcomes(failed=1)
    shown = reports(result)["test_out_of_descriptors"]
    assert "OSError: [Errno 24] Too many open files" in shown
    assert "EndpointError: echo_server failed on its own side" in shown


def test_a_problem_explains_whatever_has_failed_a_test(run: Inner) -> None:
    result = run("""
import asyncio
import pytest

@pytest.mark.parametrize(
    "error", [SystemExit(1), asyncio.CancelledError(), BaseExceptionGroup("", [SystemExit(1)])],
    ids=["exit", "cancelled", "group"],
)
def test_it(echo_server, error):
    echo_server._fail(RuntimeError("first"))
    raise error
""")
    result.assert_outcomes(failed=3)
    shown = reports(result)
    assert len(shown) == 3
    for name, text in shown.items():
        assert "EndpointError: echo_server failed on its own side: first" in text, name


def test_who_ends_the_run_waits_for_no_handler(run_plain: Inner) -> None:
    result = run_plain("""
import pytest
from pytest_sockets._endpoints.attempt import Attempt

@pytest.fixture(autouse=True)
def ask_nobody(monkeypatch):
    monkeypatch.delattr(Attempt, "problems")  # it waits for them
    yield

def test_it(echo_server):
    pytest.exit("enough")
""")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*Exit: enough*")
