"""Clients that do not keep to a script: idle, stalled, gone, flooding, pipelining, byte by byte."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_sockets import Script, Settings, Sockets, TCPServer
from stream_ends import FOREVER, abort, early_client, plain_client, read_to_eof
from told import told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]

SHORT = 0.2
"""Seconds, for the clocks that have to run out."""


@pytest.fixture
def server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


@pytest.fixture
def impatient() -> Iterator[TCPServer]:
    """Return a server whose clocks all run out soon."""
    with Sockets(Settings(timeout=SHORT)) as sockets:
        yield sockets.tcp_server()


def outlast(server: TCPServer, rounds: int = 2) -> None:
    """Let pass what any clock of a step would have taken, as waits of the same length do."""
    for _ in range(rounds):
        with contextlib.suppress(AssertionError):
            server.wait_connections(1000)


# -- a step's clock


def test_a_client_that_is_idle_before_its_first_byte_has_no_deadline(impatient: TCPServer) -> None:
    impatient.script().expect(b"a").expect(b"b").send(b"c").close()
    with plain_client(impatient.address) as client:
        outlast(impatient)
        assert impatient.problems == ()
        client.sendall(b"ab")
        assert read_to_eof(client) == b"c"
    assert told(impatient) == []


def test_an_idle_last_step_has_no_deadline(impatient: TCPServer) -> None:
    impatient.script().expect(b"a").send(b"b").expect(b"QUIT")
    with plain_client(impatient.address) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"b"
        outlast(impatient)
        assert impatient.problems == ()
        client.sendall(b"QUIT")
        assert told(impatient) == []


def test_the_clock_runs_once_a_step_is_no_longer_the_last(impatient: TCPServer) -> None:
    script = impatient.script().send(b"220").expect(b"HELO")
    with plain_client(impatient.address) as client:
        assert client.recv(3) == b"220"
        outlast(impatient)
        assert impatient.problems == ()
        script.send(b"250")
        with pytest.raises(ConnectionResetError):
            client.recv(3)
    assert told(impatient) == [
        "WaitTimeout: tcp_server connection 0, step 2 of 3: expected b'HELO', got nothing\n"
        f"  waited {SHORT} s for it"
    ]


def test_a_hold_has_no_deadline(impatient: TCPServer, sockets: Sockets) -> None:
    gate = sockets.gate()
    impatient.script().expect(b"a").hold(gate).send(b"b").expect(b"c").send(b"d").close()
    with plain_client(impatient.address) as client:
        client.sendall(b"a")
        gate.wait_reached()
        outlast(impatient)
        assert impatient.problems == ()
        client.sendall(b"c")  # before the clock of its step runs
        gate.release()
        assert read_to_eof(client) == b"bd"
    assert told(impatient) == []


def test_silence_until_a_gate_has_no_deadline(impatient: TCPServer, sockets: Sockets) -> None:
    gate = sockets.gate()
    impatient.script().expect_nothing(until=gate).send(b"b").close()
    with plain_client(impatient.address) as client:
        gate.wait_reached()
        outlast(impatient)
        gate.release()
        assert read_to_eof(client) == b"b"
    assert told(impatient) == []


STALLS: dict[str, tuple[Callable[[Script], Script], bytes, str]] = {
    "in mid-frame": (
        lambda script: script.expect(b"HELLO").send(b"x"),
        b"HE",
        "step 1 of 2: expected b'HELLO', got b'HE'",
    ),
    "in mid-frame of the last step": (
        lambda script: script.recv_line(),
        b"HE",
        r"step 1 of 1: expected bytes up to b'\n', got b'HE'",
    ),
    "after our send": (
        lambda script: script.send(b"220").recv_exactly(4).send(b"x"),
        b"",
        "step 2 of 3: expected 4 bytes, got nothing",
    ),
    "between two steps": (
        lambda script: script.expect(b"a").recv_prefixed(">H").send(b"x"),
        b"a",
        "step 2 of 3: expected a '>H' length and so many bytes, got nothing",
    ),
    "before its EOF": (
        lambda script: script.expect(b"a").expect_eof().send(b"x"),
        b"a",
        "step 2 of 3: expected EOF, got nothing",
    ),
    "in an optional step, which it may leave and not stall": (
        lambda script: script.optional().expect(b"QUIT").send(b"x"),
        b"QU",
        "step 1 of 2: expected b'QUIT', got b'QU'",
    ),
    "with a pattern": (
        lambda script: script.expect(re.compile(rb"\d+;"), until=b";").send(b"x"),
        b"12",
        r"step 1 of 2: expected a full match of b'\\d+;', got b'12'",
    ),
}


@pytest.mark.parametrize("stall", STALLS)
def test_a_client_that_stalls_meets_the_deadline_of_the_step_by_name(
    server: TCPServer, stall: str
) -> None:
    write, request, place = STALLS[stall]
    write(server.script(timeout=SHORT))
    with plain_client(server.address) as client:
        client.sendall(request)
        with pytest.raises(ConnectionResetError):
            read_to_eof(client)
    assert told(server) == [
        f"WaitTimeout: tcp_server connection 0, {place}\n  waited {SHORT} s for it"
    ]


def test_a_step_may_have_a_deadline_of_its_own(server: TCPServer) -> None:
    server.script(timeout=FOREVER).send(b"220").recv_line(timeout=SHORT).send(b"x")
    with early_client(server, b"HE") as client:
        with pytest.raises(ConnectionResetError):
            read_to_eof(client)
    assert [text.splitlines()[-1] for text in told(server)] == [f"  waited {SHORT} s for it"]


def test_a_client_that_does_not_read_meets_the_deadline_of_the_send(server: TCPServer) -> None:
    size = 64 << 20
    server.script(timeout=SHORT).expect(b"a").send(bytes(size))
    with plain_client(server.address) as client:
        client.sendall(b"a")
        with pytest.raises(AssertionError, match="step 2 of 2") as caught:
            server.wait_closed(2, timeout=FOREVER)
    (problem,) = told(server)
    assert problem.endswith(str(caught.value))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("(bytes 0 to 48 of 67,108,864)) failed")
    assert re.fullmatch(
        r"  send waited 0.2 s for the peer to read; the kernel took [\d,]+ of 67,108,864 bytes",
        lines[1],
    )


# -- clients that leave


def test_a_client_that_connects_and_leaves_is_told_with_the_step(server: TCPServer) -> None:
    server.script().expect(b"HELLO").send(b"x")
    plain_client(server.address).close()
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 1 of 2: expected b'HELLO', "
        "got nothing: the peer sent EOF"
    ]


LEAVES: dict[str, tuple[Callable[[Script], Script], str]] = {
    "expect": (lambda script: script.expect(b"HELLO"), "expected b'HELLO', got b'HE'"),
    "expect a pattern": (
        lambda script: script.expect(re.compile(b"HELLO"), until=5),
        "expected a full match of b'HELLO', got b'HE'",
    ),
    "recv_exactly": (lambda script: script.recv_exactly(5), "expected 5 bytes, got b'HE'"),
    "recv_line": (lambda script: script.recv_line(), r"expected bytes up to b'\n', got b'HE'"),
    "recv_prefixed": (
        lambda script: script.recv_prefixed(">H"),
        "expected a '>H' length and so many bytes, got b'HE'",
    ),
}


@pytest.mark.parametrize("how", ["EOF", "RST"])
@pytest.mark.parametrize("step", LEAVES)
def test_a_client_that_leaves_in_mid_frame_is_told_with_the_step_and_its_end(
    server: TCPServer, step: str, how: str
) -> None:
    write, place = LEAVES[step]
    write(server.script())
    client = plain_client(server.address)
    client.sendall(b"HE")
    server.assert_received(b"HE")
    client.close() if how == "EOF" else abort(client)
    (problem,) = told(server)
    lines = problem.splitlines()
    assert lines[0] == f"MismatchError: tcp_server connection 0, step 1 of 1: {place}"
    ends = {
        "EOF": "the peer sent EOF",
        "RST": "the peer reset the connection (Connection reset by peer)",
    }
    assert lines[-1] == f"  no more can come: {ends[how]}"


RESETS: dict[str, Callable[[Script], Any]] = {
    "recv": lambda script: script.recv(5),
    "recv_exactly": lambda script: script.recv_exactly(5),
    "recv_to_eof": lambda script: script.recv_to_eof(),
    "wait_eof": lambda script: script.wait_eof(),
    "expect_eof": lambda script: script.expect_eof(),
    "expect": lambda script: script.expect(b"HELLO"),
}
END = "the peer reset the connection (Connection reset by peer)"


@pytest.mark.parametrize("verb", RESETS)
def test_a_reset_is_told_at_any_receiving_step(server: TCPServer, verb: str) -> None:
    RESETS[verb](server.script().expect(b"a").send(b"b"))
    with plain_client(server.address) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"b"
        abort(client)
    (problem,) = told(server)
    assert problem.splitlines()[0].startswith(
        "MismatchError: tcp_server connection 0, step 3 of 3: expected "
    )
    assert END in problem


@pytest.mark.parametrize("verb", ["send", "close", "send_eof"])
def test_a_reset_is_told_at_a_sending_step_that_comes_after_it(
    server: TCPServer, sockets: Sockets, verb: str
) -> None:
    gate = sockets.gate()
    script = server.script().hold(gate)
    script.send(b"x").recv_line() if verb == "send" else getattr(script, verb)()
    client = plain_client(server.address)
    gate.wait_reached()
    abort(client)
    assert server.accept().peer_ended == "reset"
    gate.release()
    if verb == "send":
        assert told(server) == [
            f"MismatchError: tcp_server connection 0, step 2 of 3: send(b'x') failed\n"
            f"  cannot send: {END}"
        ]
    else:  # it is over, as the script wants it
        assert told(server) == []


def test_eof_where_a_reset_was_expected_is_told(server: TCPServer) -> None:
    server.script().expect(b"a").expect_reset()
    with plain_client(server.address) as client:
        client.sendall(b"abc")
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 2 of 2: expected a reset, "
        "got nothing: the peer sent EOF"
    ]


def test_bytes_where_eof_was_expected_are_told(server: TCPServer) -> None:
    server.script().expect(b"a").expect_eof().close()
    with plain_client(server.address) as client:
        client.sendall(b"abc")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 2 of 3: expected EOF, got b'bc'"
    ]


# -- how the bytes come


def test_pipelined_requests_are_answered_in_order(server: TCPServer) -> None:
    script = server.script()
    for n in range(50):
        script.expect(b"%d\n" % n).send(b"<%d>" % n)
    script.close()
    with plain_client(server.address) as client:
        client.sendall(b"".join(b"%d\n" % n for n in range(50)))
        assert read_to_eof(client) == b"".join(b"<%d>" % n for n in range(50))
    assert told(server) == []


def test_the_outcome_does_not_depend_on_how_the_stream_is_cut(server: TCPServer) -> None:
    script = server.script().recv_line(save="a").expect(b"bc").recv_prefixed("B", save="d")
    script.expect(re.compile(rb"(\w+);"), until=b";", save="e").send(b"!").close()
    with plain_client(server.address) as client:
        for n, byte in enumerate(b"a\nbc\2dd" + b"ee;"):
            client.sendall(bytes([byte]))
            server.assert_received(re.compile(b"^(?s:.){%d}" % (n + 1)))
        assert read_to_eof(client) == b"!"
    saved = server.accept().saved
    assert (saved["a"], saved["d"], saved["e"][1]) == (b"a\n", b"dd", b"ee")
    assert told(server) == []


def test_a_client_that_floods_fails_at_once_and_little_of_it_is_kept(server: TCPServer) -> None:
    server.script(timeout=FOREVER).expect(b"HELLO").send(b"x")
    with plain_client(server.address) as client:
        with pytest.raises(ConnectionError):
            client.sendall(bytes(100 << 20))
    assert len(server.received) < 32 << 20
    (problem,) = told(server)
    assert problem.startswith(
        "MismatchError: tcp_server connection 0, step 1 of 2: expected b'HELLO', got b'\\x00"
    )
    assert len(problem) < 1000


def test_a_flood_after_the_last_step_is_not_copied_into_the_message(server: TCPServer) -> None:
    server.script().expect(b"HELLO").send(b"x").close()
    with plain_client(server.address) as client:
        with pytest.raises(ConnectionError):
            client.sendall(b"HELLO" + bytes(100 << 20))
    (problem,) = told(server)
    assert len(problem) < 1000


def test_a_length_below_zero_is_told(server: TCPServer) -> None:
    server.script().recv_prefixed("b").send(b"x")
    with plain_client(server.address) as client:
        client.sendall(b"\xff")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert told(server) == [
        "MismatchError: tcp_server connection 0, step 1 of 2: expected a 'b' length and so many "
        "bytes, got b'\\xff'\n  recv_prefixed wanted a 'b' length and so many bytes, but the "
        "length at byte 0 is -1, below 0"
    ]


def test_a_difference_in_a_long_expectation_is_shown_where_it_is(server: TCPServer) -> None:
    server.script().expect(bytes(500) + b"END")
    with plain_client(server.address) as client:
        client.sendall(bytes(500) + b"ENT")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    (problem,) = told(server)
    assert problem.endswith("first difference at byte 502: expected 0x44 'D', received 0x54 'T'")
    assert "END'" in problem
    assert "ENT'" in problem
