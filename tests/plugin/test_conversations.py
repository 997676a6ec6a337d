"""What goes wrong in a script or a handler fails its test, once, in the call phase."""

from __future__ import annotations

import re

import pytest

from inner_runs import Inner, reports

CLIENT = '''
import socket, threading
import pytest

def ask(server, *requests, end=True):
    """Send each request after the answer to the one before, and return the answers."""
    client = socket.create_connection(server.address, 60)
    try:
        answers = []
        for request in requests:
            client.sendall(request)
            answers.append(client.recv(100))
        return answers
    finally:
        if end:
            client.close()
        else:
            OPEN.append(client)

OPEN = []

@pytest.fixture(autouse=True)
def close_clients():
    yield
    while OPEN:
        OPEN.pop().close()
'''
CAUSE = "\nThe above exception was the direct cause of the following exception:\n"

CLIENT_FAILS_TOO = """
def test_other_bytes(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250").expect(b"QUIT").send(b"221")
    assert ask(tcp_server, b"EHLO", b"RSET") == [b"250", b"221"]

def test_surplus(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
    ask(tcp_server, b"EHLO", b"RSET")

@pytest.mark.sockets(timeout=0.2)
def test_stall(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
    ask(tcp_server, b"EH")

def test_handler(tcp_server):
    @tcp_server.serve
    def talk(conn):
        assert conn.recv(9) == b"EHLO"
    ask(tcp_server, b"RSET")

def test_async_handler(tcp_server):
    @tcp_server.serve
    async def talk(conn):
        await conn.expect(b"EHLO")
    ask(tcp_server, b"RSET")

def test_pytest_fail(tcp_server):
    @tcp_server.serve
    def talk(conn):
        conn.recv(9)
        pytest.fail("by hand")
    ask(tcp_server, b"RSET")

@pytest.mark.parametrize("end", ["skip", "xfail", "exit"])
def test_no_failure(tcp_server, end):
    @tcp_server.serve
    def talk(conn):
        conn.recv(9)
        getattr(pytest, end)("of no use")
    ask(tcp_server, b"RSET")

def test_wait(tcp_server):
    @tcp_server.serve
    def talk(conn):
        conn.recv(9)
        raise LookupError("of the handler")
    with pytest.raises(ConnectionResetError):
        ask(tcp_server, b"RSET")
    tcp_server.wait_closed(9)

def test_gate(tcp_server, sockets):
    gate = sockets.gate()
    tcp_server.script().expect(b"EHLO").hold(gate)
    client = threading.Thread(target=lambda: pytest.raises(OSError, ask, tcp_server, b"RSET"))
    client.start()
    try:
        gate.wait_reached()
    finally:
        client.join()

@pytest.mark.xfail(raises=ConnectionResetError)
def test_expected_to_fail(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
    ask(tcp_server, b"RSET")
"""
PLACE = "tcp_server connection 0, "
FIRST_SHOWN = {
    "test_other_bytes": f"MismatchError: {PLACE}step 3 of 4: expected b'QUIT', got b'RSET'",
    "test_surplus": f"MismatchError: {PLACE}after the last of 2 steps: expected nothing more, "
    "got b'RSET' (4 bytes); strict=False allows it",
    "test_stall": f"WaitTimeout: {PLACE}step 1 of 2: expected b'EHLO', got b'EH'",
    "test_handler": "AssertionError: assert b'RSET' == b'EHLO'",
    "test_async_handler": "MismatchError: tcp_server connection 0 received something else",
    "test_pytest_fail": "Failed: by hand",
    "test_no_failure[skip]": "Skipped: of no use",
    "test_no_failure[xfail]": "XFailed: of no use",
    "test_no_failure[exit]": "Exit: of no use",
}


def test_the_problem_is_shown_first_and_the_clients_exception_after_it(run: Inner) -> None:
    result = run(CLIENT + CLIENT_FAILS_TOO)
    result.assert_outcomes(failed=11, xfailed=1)
    shown = reports(result)
    for name, text in FIRST_SHOWN.items():
        first, *links = shown[name].split(CAUSE)
        assert text in first, shown[name]
        assert links, shown[name]
        assert "ConnectionResetError: [Errno 104] Connection reset by peer" in links[-1]
        told = shown[name].partition("-- sockets: ")[0]
        if name.startswith("test_no_failure"):
            # What is no failure by itself is the cause of one that quotes it. pytest 8 shows the
            # causes of an error that has no traceback once more, with every line of theirs.
            assert told.count(text) >= 2, shown[name]
            continue
        assert told.count(text) == 1, shown[name]
        assert "pytest_sockets/" not in told, shown[name]
    for name, text in (
        ("test_wait", "LookupError: of the handler"),
        ("test_gate", f"MismatchError: {PLACE}step 1 of 2: expected b'EHLO', got b'RSET'"),
    ):
        told = shown[name].partition("-- sockets: ")[0]
        assert (told.count(text), told.count(CAUSE)) == (1, 0), shown[name]
        assert "pytest_sockets/" not in told, shown[name]


def test_the_arrow_is_on_the_handlers_own_line(run_plain: Inner) -> None:
    result = run_plain(CLIENT + CLIENT_FAILS_TOO, "-k", "handler or wait")
    shown = reports(result)
    assert '>       assert conn.recv(9) == b"EHLO"' in shown["test_handler"]
    assert '>       await conn.expect(b"EHLO")' in shown["test_async_handler"]
    told = shown["test_wait"].partition("-- sockets: ")[0]
    assert [line.strip() for line in re.findall("^>.*", told, re.MULTILINE)] == [
        ">       tcp_server.wait_closed(9)",
        '>       raise LookupError("of the handler")',
    ]


CLIENT_IS_CONTENT = """
def test_left_over(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250").expect(b"QUIT").send(b"221")
    assert ask(tcp_server, b"EHLO", end=False) == [b"250"]

def test_left_early(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250").expect(b"QUIT").send(b"221")
    assert ask(tcp_server, b"EHLO") == [b"250"]

def test_never_played(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")

def test_no_steps(tcp_server):
    tcp_server.script()

def test_surplus(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
    assert ask(tcp_server, b"EHLO\\n") == [b"250"]

def test_no_plan(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
    assert ask(tcp_server, b"EHLO") == [b"250"]
    ask(tcp_server)

def test_late_handler(tcp_server):
    @tcp_server.serve
    def talk(conn):
        conn.send(b"250")
        conn.recv_line()
        raise LookupError("of the handler")
    ask(tcp_server, b"EHLO\\n")

def test_several(sockets):
    one, two = sockets.tcp_server(), sockets.unix_server()
    one.script().expect(b"EHLO").send(b"250")
    two.script().expect(b"EHLO").send(b"250")

@pytest.mark.xfail(raises=ConnectionResetError)
def test_other_type_than_expected(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
"""
ONLY_SHOWN = {
    "test_left_over": f"{PLACE}step 3 of 4: expected b'QUIT', got nothing; 2 steps left when the "
    "test ended",
    "test_left_early": f"{PLACE}step 3 of 4: expected b'QUIT', got nothing: the peer sent EOF",
    "test_never_played": "tcp_server, script 1, 2 steps: never played, as nobody connected for it",
    "test_no_steps": "tcp_server, script 1 has no steps: add some, as in "
    "script().expect(b'…').send(b'…')",
    "test_surplus": f"{PLACE}after the last of 2 steps: expected nothing more, got b'\\n' "
    "(1 byte); strict=False allows it",
    "test_no_plan": "tcp_server connection 1 had no plan: 1 script for 2 connections; add "
    "script(each=True), accept() it, or use strict=False",
    "test_late_handler": "LookupError: of the handler",
    "test_several": "tcp_server, script 1, 2 steps: never played, as nobody connected for it",
    "test_other_type_than_expected": "tcp_server, script 1, 2 steps: never played",
}


def test_a_problem_fails_a_test_whose_client_is_content(run: Inner) -> None:
    result = run(CLIENT + CLIENT_IS_CONTENT)
    result.assert_outcomes(failed=9)
    shown = reports(result)
    assert sorted(shown) == sorted(ONLY_SHOWN)
    for name, text in ONLY_SHOWN.items():
        told = shown[name].partition("-- sockets: ")[0]
        assert (told.count(text), told.count(CAUSE)) == (1, 0), shown[name]
        assert "traceback entries are hidden" not in told
        assert "pytest_sockets/" not in told, shown[name]
    also = "also: unix_server, script 1, 2 steps: never played"
    assert also in shown["test_several"]


FINE = """
def test_played(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250").close()
    assert ask(tcp_server, b"EHLO") == [b"250"]

def test_open_at_the_end(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250")
    assert ask(tcp_server, b"EHLO", end=False) == [b"250"]

def test_reset_after_the_last_step(tcp_server):
    import struct
    tcp_server.script().expect(b"EHLO").send(b"250").optional().expect(b"QUIT")
    assert ask(tcp_server, b"EHLO", end=False) == [b"250"]
    OPEN[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    OPEN[-1].close()

def test_peer_gone_in_a_handler(tcp_server):
    tcp_server.serve(lambda conn: conn.recv_exactly(100))
    ask(tcp_server)

def test_handler_blocked_at_the_end(tcp_server):
    @tcp_server.serve
    def talk(conn):
        conn.send(b"250")
        conn.recv_exactly(100)
    ask(tcp_server, b"EHLO", end=False)

def test_async_handler_blocked_at_the_end(tcp_server):
    @tcp_server.serve
    async def talk(conn):
        await conn.send(b"250")
        await conn.recv_exactly(100)
    ask(tcp_server, b"EHLO", end=False)

@pytest.mark.parametrize("kind", ["echo_server", "silent_server", "tcp_server"])
def test_any_end_without_a_plan(request, kind):
    ask(request.getfixturevalue(kind))

def test_leftovers_of_an_inline_connection(tcp_server):
    client = socket.create_connection(tcp_server.address)
    client.sendall(b"EHLO never read")
    tcp_server.accept().expect(b"EHLO")
    client.close()

@pytest.fixture
def late(tcp_server):
    yield
    try:
        ask(tcp_server, b"RSET")
    except ConnectionResetError:
        pass

def test_after_the_call_phase(tcp_server, late):
    tcp_server.script().optional().expect(b"EHLO").send(b"250")

def test_strictness_is_asked_for(tcp_server):
    tcp_server.script(strict=False).expect(b"EHLO").send(b"250")
    assert ask(tcp_server, b"EHLO and more") == [b"250"]
    ask(tcp_server)

def test_skipped(tcp_server):
    tcp_server.script().expect(b"EHLO")
    pytest.skip("left alone")
"""


def test_what_is_never_a_problem_fails_no_test(run: Inner) -> None:
    result = run(CLIENT + FINE, "-W", "error")
    result.assert_outcomes(passed=12, skipped=1)


STEPS = """
def test_it(tcp_server):
    tcp_server.script().expect(b"EHLO").send(b"250").close()
    tcp_server.script().expect(b"EHLO").send(b"250").expect(b"QUIT").close()
    tcp_server.script().expect(b"never")
    assert ask(tcp_server, b"EHLO") == [b"250"]
    assert ask(tcp_server, b"EHLO", end=False) == [b"250"]
"""


def test_the_section_shows_how_far_the_scripts_have_come(run: Inner) -> None:
    shown = reports(run(CLIENT + STEPS))["test_it"]
    section = shown.partition("-- sockets: ")[2].splitlines()
    assert section[2:5] == [
        "  script 1: all of 3 steps done on connection 0",
        "  script 2: at step 3 of 4 on connection 1, expect(b'QUIT')",
        "  script 3, 1 step: nobody connected for it",
    ]
    problem = "PROBLEM MismatchError: tcp_server connection 1, step 3 of 4: expected b'QUIT'"
    assert [line for line in section if problem in line]


def test_a_rerun_has_plans_and_problems_of_its_own(run: Inner) -> None:
    result = run(
        CLIENT
        + """
attempts = []

def test_second_time_lucky(tcp_server):
    attempts.append(1)
    tcp_server.script().expect(b"%d" % len(attempts)).send(b"x")
    assert ask(tcp_server, b"2") == [b"x"]
""",
        "--reruns=1",
        plugins=["rerunfailures"],
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("*1 passed, *1 rerun*")


def test_a_script_of_a_wider_fixture_fails_the_test_that_it_goes_wrong_in(run: Inner) -> None:
    result = run(
        CLIENT
        + """
from pytest_sockets import TCPServer

@pytest.fixture(scope="module")
def shared():
    with TCPServer(name="shared") as server:
        server.serve(talk)
        yield server

def talk(conn):
    conn.send(conn.recv_line())

def test_fine(shared):
    assert ask(shared, b"x\\n") == [b"x\\n"]

def test_fails(shared):
    shared.script().expect(b"EHLO").send(b"250")
    ask(shared, b"RSET")
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    assert re.search(
        r"MismatchError: shared connection \d, step 1 of 2", reports(result)["test_fails"]
    )


@pytest.mark.parametrize("style", ["long", "short", "native", "line", "no"])
def test_the_problem_survives_every_style_of_traceback(run_plain: Inner, style: str) -> None:
    result = run_plain(CLIENT + CLIENT_IS_CONTENT, "-k", "never_played", f"--tb={style}")
    result.assert_outcomes(failed=1)
    if style != "no":
        result.stdout.fnmatch_lines("*never played, as nobody connected for it*")


def test_a_child_process_of_a_conversation_ends_without_a_word(run_plain: Inner) -> None:
    result = run_plain(
        CLIENT
        + """
import os
from pytest_sockets import EndpointClosedError

def test_it(tcp_server, sockets):
    gate = sockets.gate()
    tcp_server.script().expect(b"EHLO").hold(gate).send(b"250")
    tcp_server.serve(lambda conn: conn.recv_line())
    one, two = (socket.create_connection(tcp_server.address) for _ in range(2))
    one.sendall(b"EHLO")
    gate.wait_reached()
    child = os.fork()
    if not child:
        try:
            with pytest.raises(EndpointClosedError):
                tcp_server.check()
            with pytest.raises(EndpointClosedError):
                tcp_server.script()
            tcp_server.close()
            sockets.close()
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    gate.release()
    assert one.recv(9) == b"250"
    one.close()
    two.close()
""",
        "-W",
        "error",
        "-W",
        "ignore:This process:DeprecationWarning",
        apart=True,
    )
    result.assert_outcomes(passed=1)
