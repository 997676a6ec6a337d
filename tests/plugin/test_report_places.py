"""Where else a failed test's report goes: JUnit XML, a debugger, other plugins' representations."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from inner_runs import Inner, normal, reports

SOURCE = r"""
import socket

def test_ping(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(6, socket.MSG_WAITALL) == b"PONG\r\n"
"""

SECTION = """\
--------------------- sockets: test_ping (seed 4096844960) ---------------------
echo_server  tcp 127.0.0.1:PORT   1 connection, EOF from peer
  +TIME  #0 accepted from 127.0.0.1:PORT
  +TIME  #0 received    6  00000000  50 49 4e 47 0d 0a                                 |PING..|
  +TIME  #0 sent        6  00000000  50 49 4e 47 0d 0a                                 |PING..|
  +TIME  #0 EOF from peer
  +TIME  #0 EOF sent
  +TIME  #0 closed
"""


def test_the_section_is_in_the_junit_file(run: Inner) -> None:
    run(SOURCE, "--junitxml=junit.xml", "--show-capture=no").assert_outcomes(failed=1)
    failure = ElementTree.parse(run.pytester.path / "junit.xml").find(".//failure")
    assert failure is not None
    assert normal(f"{failure.text}\n").endswith(SECTION)


def test_a_debugger_shows_the_section_and_finds_the_endpoints_alive(run_plain: Inner) -> None:
    commands = b"p echo_server.is_closed\np socket.create_connection(echo_server.address).close()\n"
    result = run_plain(SOURCE, "--pdb", stdin=commands + b"c\n")
    result.assert_outcomes(failed=1)
    before, _, after = normal(result.stdout.str()).partition("entering PDB")
    assert SECTION in before
    answers = after.split("(Pdb) ")[1:]
    assert [answer.splitlines()[0] for answer in answers[:2]] == ["False", "None"]
    assert after.count("sockets: test_ping") == 0, "it is shown once"


@pytest.mark.parametrize("way", ["breakpoint", "--trace", "--pdb"])
def test_deadlines_stand_still_while_a_debugger_has_the_test(run_plain: Inner, way: str) -> None:
    result = run_plain(
        f"""
from pytest_sockets._engine.clock import CLOCK

def test_stops(tcp_server):
    assert CLOCK.patience() != CLOCK.patience()
    {"breakpoint()" if way == "breakpoint" else ""}
    assert {way != "--pdb"}

def test_next():
    assert CLOCK.patience() != CLOCK.patience()
""",
        *([way] if way != "breakpoint" else []),
        stdin=b"p CLOCK.patience() - CLOCK.patience()\nc\n" * (2 if way == "--trace" else 1),
    )
    result.assert_outcomes(passed=1 if way == "--pdb" else 2, failed=way == "--pdb")
    assert "(Pdb) 0.0\n" in result.stdout.str()


QUIT = """
import pytest
from pytest_sockets import TCPServer

@pytest.fixture(scope="session")
def shared():
    with TCPServer() as server:
        yield server
        server.wait_connections(1, timeout=0.01)

def test_it(shared):
    {}
"""


@pytest.mark.parametrize("end", [b"q\n", b""])
@pytest.mark.parametrize("way", ["breakpoint", "--pdb"])
def test_deadlines_run_again_once_a_debugger_is_quit(
    run_plain: Inner, way: str, end: bytes
) -> None:
    source = QUIT.format("breakpoint()" if way == "breakpoint" else "assert False")
    result = run_plain(source, *([way] if way != "breakpoint" else []), stdin=end)
    output = result.stdout.str() + result.stderr.str()
    assert "(Pdb) " in output
    assert "WaitTimeout: tcp_server: waited 0.01 s for 1 connection" in output


@pytest.mark.parametrize("command", ["s", "n", "r", "until", "u\ns"])
def test_deadlines_run_again_once_somebody_steps_out_of_a_failed_test(
    run_plain: Inner, command: str
) -> None:
    source = """
from pytest_sockets._engine.clock import CLOCK

def test_fails():
    assert False

def test_next():
    assert CLOCK.patience() != CLOCK.patience()
"""
    result = run_plain(source, "--pdb", stdin=f"{command}\n".encode())
    result.assert_outcomes(failed=1, passed=1)


def test_a_representation_that_takes_no_sections_is_left_alone(run: Inner) -> None:
    result = run(
        SOURCE,
        conftest="""
import pytest

@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport():
    report = yield
    if report.failed:
        report.longrepr = "only a string"
    return report
""",
    )
    shown = reports(result)["test_ping"]
    assert shown.startswith("only a string\n")
    assert shown.endswith(SECTION)


@pytest.mark.parametrize("by", ["option", "ini"])
@pytest.mark.parametrize("style", ["full", "short", "off"])
def test_the_section_can_be_without_bytes_or_off(run_plain: Inner, style: str, by: str) -> None:
    option, ini = f"--sockets-report={style}", f"sockets_report = {style}"
    result = run_plain(SOURCE, option if by == "option" else "-q", ini=ini if by == "ini" else "")
    shown = reports(result)["test_ping"]
    if style == "full":
        assert shown.endswith(SECTION)
    elif style == "short":
        assert "  +TIME  #0 received    6\n  +TIME  #0 sent        6\n" in shown
        assert "PING.." not in shown
        assert "50 49" not in shown
    else:
        assert "sockets:" not in shown


def test_the_option_overrides_the_ini_key(run: Inner) -> None:
    result = run(SOURCE, "--sockets-report=full", ini="sockets_report = off")
    assert reports(result)["test_ping"].endswith(SECTION)
