"""Sweeps in pytest: what is reported of them, and how far they are."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from inner_runs import Inner, alone, needs, normal

HAS_SUBTESTS = hasattr(pytest, "Subtests")
SUBTESTS = () if HAS_SUBTESTS else ("-p", "pytest_subtests.plugin")
"""What loads the fixture `subtests`: pytest 9 has one of its own."""

CLIENT = """
import socket
import pytest
from pytest_sockets import AfterSent
from pytest_sockets.faults import Close, Reset, Slice, Stall

def fetch(address):
    with socket.create_connection(address, timeout=60) as sock:
        sock.sendall(b"GET\\r\\n")
        data = b""
        while not data.endswith(b"\\n"):
            more = sock.recv(100)
            if not more:
                break
            data += more
        return data

def bad_at(*sizes, exception=AssertionError):
    def talk(sockets):
        server = sockets.tcp_server()
        server.script().expect(b"GET\\r\\n").send(b"HELLO\\r\\n").close()
        reply = fetch(server.address)
        if len(reply) in sizes:
            raise exception(f"took {reply!r} for a reply")
    return talk
""".replace("from pytest_sockets import AfterSent\n", "")

GOOD = (
    CLIENT
    + """
def test_it(sweep):
    sweep(bad_at(), Close(), Slice())
"""
)

BAD = (
    CLIENT
    + """
def test_it(sweep):
    sweep(bad_at(3, 5), Close())
"""
)


def lines_of(result: pytest.RunResult) -> list[str]:
    return normal(result.stdout.str()).splitlines()


def with_subtests(run: Inner) -> Inner:
    """Return what runs pytest with the fixture `subtests`."""
    if not HAS_SUBTESTS:
        needs("pytest_subtests")
    return Inner(run.pytester, (*run.workers, *SUBTESTS))


@pytest.fixture
def run_told(run_plain: Inner) -> Inner:
    return with_subtests(run_plain)


def errors_in(text: str) -> list[str]:
    """Return the lines of a report that tell of errors."""
    return [line[1:].strip() for line in text.splitlines() if line.startswith("E  ")]


# -- values of parametrised tests

CUTS = """
import pytest
from pytest_sockets import cuts, splits

@pytest.mark.parametrize("cut", cuts(b"HELLO"))
def test_cut(cut):
    assert cut != 3

@pytest.mark.parametrize("split", splits(b"HELLO"))
def test_split(split):
    head, tail = split
    assert head + tail == b"HELLO"
    assert len(head) != 2

@pytest.mark.parametrize(("head", "tail"), splits(b"HELLO", most=2))
def test_two(head, tail):
    assert head + tail == b"HELLO"
"""


def test_ids_of_cuts_and_splits_are_known_at_collection(run_plain: Inner) -> None:
    result = run_plain(CUTS, "--collect-only", "-q")
    found = [line for line in lines_of(result) if "::" in line]
    assert found == [
        *(f"test_it.py::test_cut[{cut}]" for cut in range(5)),
        *(f"test_it.py::test_split[at-{cut}]" for cut in range(1, 5)),
        "test_it.py::test_two[H-ELLO]",
        "test_it.py::test_two[HELL-O]",
    ]


def test_one_cut_can_be_run_alone(run_plain: Inner) -> None:
    run_plain.pytester.makepyfile(test_it=CUTS)
    result = run_plain.pytester.runpytest_inprocess(
        "-p", "sockets", "test_it.py::test_cut[3]", "test_it.py::test_split[at-4]"
    )
    result.assert_outcomes(passed=1, failed=1)


def test_what_failed_last_is_run_again(run: Inner) -> None:
    first = run(CUTS)
    first.assert_outcomes(passed=9, failed=2)
    again = run(CUTS, "--lf", "-rf")
    again.assert_outcomes(failed=2)
    failed = sorted(line.split()[1] for line in lines_of(again) if line.startswith("FAILED"))
    assert failed == ["test_it.py::test_cut[3]", "test_it.py::test_split[at-2]"]


def test_a_reply_that_cannot_be_cut_is_told_at_collection(run_plain: Inner) -> None:
    result = run_plain(CUTS.replace('cuts(b"HELLO")', 'cuts(b"")'))
    result.stdout.fnmatch_lines("E   ValueError: reply is b'': nothing of it can be cut off")


# -- the fixture


def test_a_sweep_that_finds_nothing_is_quiet(run_plain: Inner) -> None:
    result = run_plain(GOOD, "-v", "-rA")

    result.assert_outcomes(passed=1)
    assert not re.search("SUBFAIL|SUBPASS", result.stdout.str())
    assert "AfterSent" not in result.stdout.str()


FIRST = [
    "AssertionError: took b'HEL' for a reply",
    "run 4 of 7 of the sweep: Close() at AfterSent(3) on tcp_server connection 0; alone: "
    "sweep(talk, Close(), only=3)",
]
SECOND = [
    "AssertionError: took b'HELLO' for a reply",
    "run 6 of 7 of the sweep: Close() at AfterSent(5) on tcp_server connection 0; alone: "
    "sweep(talk, Close(), only=5)",
]
WIRE = """\
tcp_server  tcp 127.0.0.1:PORT   1 connection, EOF from peer
  script 1: all of 3 steps done on connection 0
  Close() at AfterSent(3) on connection 0: 1 hit
  +TIME  #0 accepted from 127.0.0.1:PORT
  +TIME  #0 received    5  00000000  47 45 54 0d 0a                                    |GET..|
  +TIME  #0 sent        3  00000000  48 45 4c                                          |HEL|
  +TIME  #0 FAULT Close() at AfterSent(3): 3 bytes sent, 5 received
  +TIME  #0 EOF sent
  +TIME  #0 EOF from peer
  +TIME  #0 closed
"""


def test_each_failed_run_is_a_result_of_its_own(run: Inner) -> None:
    result = with_subtests(run)(BAD)

    text = normal(result.stdout.str())
    assert errors_in(text) == [*FIRST, *SECOND]
    assert WIRE in text
    assert text.count("tcp_server  tcp 127.0.0.1:PORT") == 2
    where = "on tcp_server connection 0"
    summary = [line for line in text.splitlines() if "SUBFAIL" in line]
    assert len(summary) == 2
    for line, offset in zip(summary, (3, 5), strict=True):
        assert f"[Close() at AfterSent({offset}) {where}]" in line
    assert text.count("test_it.py:22: AssertionError") == 2
    assert "/_endpoints/" not in text  # our own frames are hidden
    assert "_sweeping.py" not in text


def test_without_subtests_the_first_failed_run_is_raised(run: Inner) -> None:
    without = ("-p", "no:subtests") if HAS_SUBTESTS else ()
    result = run(BAD, *without)

    result.assert_outcomes(failed=1)
    text = normal(result.stdout.str())
    assert errors_in(text) == [*FIRST, "also: " + "; ".join(SECOND).replace("AssertionError: ", "")]
    assert WIRE in text
    assert text.count("tcp_server  tcp 127.0.0.1:PORT") == 1
    assert "/_endpoints/" not in text


def test_the_whole_run_fails_as_the_test(run_told: Inner) -> None:
    result = run_told(BAD.replace("3, 5", "7"))

    result.assert_outcomes(failed=1)
    text = normal(result.stdout.str())
    assert errors_in(text) == ["AssertionError: took b'HELLO\\r\\n' for a reply"]
    assert "#0 sent        7" in text
    assert "SUBFAIL" not in text


def test_a_problem_of_a_run_is_not_told_again(run_told: Inner) -> None:
    result = run_told(
        CLIENT
        + """
def test_it(sweep):
    def talk(sockets):
        server = sockets.tcp_server()
        server.script().expect(b"GET\\r\\n").send(b"HELLO\\r\\n")
        if len(fetch(server.address)) < 7:
            with socket.create_connection(server.address):
                server.wait_connections(2)
    sweep(talk, Close(), only=4)
"""
    )
    text = normal(result.stdout.str())
    assert text.count("E   pytest_sockets.MismatchError: tcp_server connection 1 had no plan") == 1
    assert len([line for line in text.splitlines() if "SUBFAIL" in line]) == 1
    assert "All traceback entries are hidden" not in text


def test_pytest_fail_fails_a_run_and_a_skip_ends_the_sweep(run_told: Inner) -> None:
    result = run_told(
        CLIENT
        + """
def test_fail(sweep):
    sweep(bad_at(3, 5, exception=pytest.fail.Exception), Close())

def test_skip(sweep):
    sweep(bad_at(3, 5, exception=pytest.skip.Exception), Close())
"""
    )
    text = normal(result.stdout.str())
    assert len([line for line in text.splitlines() if "SUBFAIL" in line]) == 2
    assert result.parseoutcomes()["skipped"] == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_program_that_exits_fails_a_run_and_pytest_exit_ends_all(
    run_plain: Inner, told: bool
) -> None:
    source = (
        CLIENT
        + """
def test_it(sweep):
    sweep(bad_at(3, 5, exception=EXCEPTION), Close())
"""
    )
    run = with_subtests(run_plain) if told else run_plain
    without = ("-p", "no:subtests") if HAS_SUBTESTS and not told else ()
    text = normal(run(source.replace("EXCEPTION", "SystemExit"), *without).stdout.str())
    assert "only=3" in text
    assert "only=5" in text

    result = run(source.replace("EXCEPTION", "pytest.exit.Exception"), *without)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = result.stdout.str()
    assert "Exit: took b'HEL' for a reply" in text
    assert "FAIL" not in text


def test_what_fails_after_the_sweep_has_the_wire_of_the_whole_run(run_told: Inner) -> None:
    result = run_told(BAD + "    raise LookupError('behind it')\n")
    *runs, last = normal(result.stdout.str()).split("tcp_server  tcp 127.0.0.1:PORT")
    assert len(runs) == 1 + 2
    assert "#0 sent        7" in last
    assert "FAULT" not in last


def test_what_fails_after_a_failed_sweep_that_was_caught_has_the_wire_of_the_whole_run(
    run_plain: Inner,
) -> None:
    without = ("-p", "no:subtests") if HAS_SUBTESTS else ()
    result = run_plain(
        CLIENT
        + """
def test_it(sweep):
    with pytest.raises(AssertionError, match="HEL"):
        sweep(bad_at(3, 5), Close())
    raise LookupError("behind it")
""",
        *without,
    )
    text = normal(result.stdout.str())
    assert "#0 sent        7" in text
    assert "FAULT" not in text


def test_exitfirst_ends_the_sweep(run_plain: Inner) -> None:
    run = Inner(run_plain.pytester, SUBTESTS)
    if not HAS_SUBTESTS:
        needs("pytest_subtests")
    result = run(BAD, "-x")
    text = normal(result.stdout.str())
    assert "AfterSent(3)" in text
    assert "AfterSent(5)" not in text
    assert "#0 sent        7" not in text  # the wire of the failed run, also with the test itself


@pytest.mark.parametrize("style", ["off", "short"])
def test_the_report_of_a_run_is_as_the_settings_say(run_told: Inner, style: str) -> None:
    text = normal(run_told(BAD, f"--sockets-report={style}").stdout.str())
    assert ("#0 FAULT Close()" in text) == (style == "short")
    assert "|HEL|" not in text


def test_runs_have_the_marker_s_settings_and_no_hooks(run_plain: Inner) -> None:
    result = run_plain(
        """
import socket, pytest
from pytest_sockets.faults import Reset

@pytest.mark.sockets(timeout=3.5, family="unix")
def test_it(sweep):
    seen = []
    def talk(sockets):
        server = sockets.stream_server()
        server.script().send(b"abc")
        seen.append((server.family, server.settings.timeout))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(server.path)
            try:
                while len(sock.recv(3, socket.MSG_WAITALL)) == 3:
                    break
            except OSError:
                pass
    sweep(talk, Reset())
    assert seen == [("unix", 3.5)] * 4
    from conftest import opened
    assert opened == ["stream_server"]
""",
        conftest="""
opened = []
def pytest_sockets_endpoint_opened(endpoint):
    opened.append(endpoint.name)
""",
        ini="pythonpath = .\n",
    )
    result.assert_outcomes(passed=1)


def test_a_run_skips_the_test_for_what_the_machine_cannot_do(run_plain: Inner) -> None:
    result = run_plain(
        """
from pytest_sockets import capabilities
from pytest_sockets.faults import Reset

def test_it(sweep, monkeypatch):
    monkeypatch.setattr(type(capabilities), "__getitem__", lambda self, name: "no")
    sweep(lambda sockets: sockets.require("ipv6"), Reset())
"""
    )
    result.assert_outcomes(skipped=1)


# -- what is left out

LONG = (
    CLIENT
    + """
def test_it(sweep):
    sweep(bad_at(), Close(), most=3)

def test_all(sweep):
    sweep(bad_at(), Close())
"""
)


def test_what_was_left_out_is_told_at_the_end_of_the_run(run: Inner) -> None:
    result = run(LONG, "-q", "-W", "error")

    result.assert_outcomes(passed=2)
    told = [line for line in lines_of(result) if "of 7 runs" in line]
    assert told == ["test_it.py::test_it: 3 of 7 runs, spread evenly; most=7 is all"]
    assert sum("sweeps that were cut short" in line for line in lines_of(result)) == 1


def test_what_others_put_beside_it_may_have_any_shape(run: Inner) -> None:
    result = run(
        LONG
        + """
@pytest.fixture(autouse=True)
def others(request):
    request.node.user_properties += [("one",), "ab", 5, None, {"a": 1, "b": 2}, ("a", "b", "c")]
""",
        "-q",
    )
    result.assert_outcomes(passed=2)
    assert sum("3 of 7 runs" in line for line in lines_of(result)) == 1


def test_what_was_left_out_of_a_failed_sweep_is_told_once(run_told: Inner) -> None:
    result = run_told(BAD.replace("Close()", "Close(), most=7").replace("most=7", "most=6"))
    assert sum("6 of 7 runs" in line for line in lines_of(result)) == 1


def test_a_thousand_runs_are_the_most_by_itself(run_plain: Inner) -> None:
    result = run_plain(
        """
from pytest_sockets.faults import Slice, Reset
def test_it(sweep):
    runs = []
    def talk(sockets):
        runs.append(1)
        sock, peer = sockets.unix_socket_pair()
        if len(runs) == 1:
            peer.send(bytes(5_000))
        else:
            peer.send(b"xx")
    sweep(talk, Slice())
    assert len(runs) == 1_001
"""
    )
    result.assert_outcomes(passed=1)
    assert any("1,000 of 4,999 runs" in line for line in lines_of(result))


def test_without_a_cap_there_is_nothing_to_tell(run_plain: Inner) -> None:
    assert "cut short" not in run_plain(GOOD).stdout.str()


# -- the line on a terminal


def on_terminal(pytester: pytest.Pytester, *args: str, width: int = 200) -> str:
    """Run pytest on `test_it.py` with a terminal as its output, and return what it wrote."""
    ours, theirs = pty.openpty()
    chunks: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # EIO: nobody has the other end any more (pty(7))
                return
            chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        command = [sys.executable, "-m", "pytest", "-p", "sockets", *args]
        env = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
        subprocess.run(
            command, cwd=pytester.path, stdout=theirs, stderr=theirs, env=env, check=False
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return b"".join(chunks).decode()


def screen(text: str) -> list[str]:
    """Return the lines that a terminal shows in the end."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    lines: list[list[str]] = [[]]
    column = 0
    for char in text:
        if char == "\n":
            lines.append([])
            column = 0
        elif char == "\r":
            column = 0
        elif char == "\b":
            column -= 1
        else:
            lines[-1][column : column + 1] = [char]
            column += 1
    return ["".join(line).rstrip() for line in lines]


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
@pytest.mark.parametrize("verbose", ["", "-v"])
def test_how_far_it_is_stands_on_a_terminal_and_goes_again(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capture: str, verbose: str
) -> None:
    alone(monkeypatch)
    pytester.makepyfile(test_it=GOOD)
    args = [f"--capture={capture}", *([verbose] if verbose else [])]
    text = on_terminal(pytester, *args)

    assert "sweep: 1 of 13, Close() at AfterSent(0)" in text
    shown = screen(text)
    assert not any("sweep: " in line for line in shown)
    last = "test_it.py::test_it PASSED" if verbose else "test_it.py ."
    progress = "" if capture == "no" else r" +\[100%\]"
    assert any(re.fullmatch(re.escape(last) + progress, line) for line in shown)


def test_the_line_fits_the_terminal(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(monkeypatch)
    pytester.makepyfile(test_it=GOOD)

    text = on_terminal(pytester, width=40)
    assert "sweep: 1 of 13, Close() at " in text
    assert "AfterSent(0)" not in text
    assert "sweep: " not in on_terminal(pytester, "-v", width=40)


@pytest.mark.parametrize("args", [("-n", "2", "-p", "xdist"), ("-p", "no:terminal")])
def test_there_is_no_line_where_nobody_would_see_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    alone(monkeypatch)
    pytester.makepyfile(test_it=GOOD)
    assert "sweep: " not in on_terminal(pytester, *args)


def test_there_is_no_line_in_a_file(run_plain: Inner) -> None:
    assert "sweep: " not in run_plain(GOOD, "-s", apart=True).stdout.str()


def test_the_line_has_no_colour(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    pytester.makepyfile(test_it=GOOD)
    text = on_terminal(pytester)
    assert "sweep: 1 of 13" in text
    assert "\x1b" not in text


def test_both_fixtures_of_a_test_are_apart(run_plain: Inner) -> None:
    result = run_plain(
        CLIENT
        + """
def test_it(sweep, tcp_server):
    tcp_server.script().expect(b"GET\\r\\n").send(b"OK\\n")
    sweep(bad_at(), Close())
    assert fetch(tcp_server.address) == b"OK\\n"
"""
    )
    result.assert_outcomes(passed=1)


def test_parametrised_sweeps_share_nothing(run: Inner) -> None:
    result = run(
        GOOD.replace("def test_it(", "@pytest.mark.parametrize('n', range(4))\ndef test_it(n, ")
    )
    result.assert_outcomes(passed=4)
