"""Rules answer on scripted connections, between the steps: when no step matches."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pytest_sockets import Sockets, StreamServer
from stream_ends import FOREVER, plain_client, read_to_eof
from told import told

FAMILIES = ["ipv4", "ipv6", "dual", "unix"]

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]


@pytest.fixture(params=FAMILIES)
def server(request: pytest.FixtureRequest, sockets: Sockets) -> StreamServer:
    server = sockets.stream_server(family=request.param, framing=b"\r\n", name="server")
    server.on(b"NOOP\r\n", b"+OK\r\n")
    server.on(re.compile(rb"ADD (\d+)\r\n"), lambda match: b"%d\r\n" % (int(match[1]) + 1))
    return server


def talk(server: StreamServer, *exchanges: tuple[bytes, bytes]) -> None:
    with plain_client(server.address) as client, client.makefile("rb") as lines:
        for request, reply in exchanges:
            client.sendall(request + b"\r\n")
            assert lines.readline() == reply + b"\r\n"


def until_the_end(client: socket.socket) -> bytes:
    """Read to the end; of a reset, which AF_UNIX does not have, nothing was read."""
    try:
        return read_to_eof(client)
    except ConnectionResetError:
        return b""


def test_a_rule_answers_before_between_and_after_the_steps(server: StreamServer) -> None:
    script = server.script().expect(b"HELLO\r\n").send(b"WORLD\r\n")
    script.expect(re.compile(rb"QUIT .+\r\n"), until=b"\r\n").send(b"BYE\r\n")
    talk(
        server,
        (b"NOOP", b"+OK"),
        (b"HELLO", b"WORLD"),
        (b"ADD 4", b"5"),
        (b"NOOP", b"+OK"),
        (b"QUIT now", b"BYE"),
        (b"NOOP", b"+OK"),
    )
    assert told(server) == []


def test_a_step_comes_before_a_rule_that_matches_too(server: StreamServer) -> None:
    server.script().expect(b"NOOP\r\n").send(b"by step\r\n")
    talk(server, (b"NOOP", b"by step"), (b"NOOP", b"+OK"))
    assert told(server) == []


def test_requests_may_come_together_or_in_bytes(server: StreamServer) -> None:
    server.script().expect(b"HELLO\r\n").send(b"WORLD\r\n").expect_eof().close()
    with plain_client(server.address) as client:
        client.sendall(b"NOOP\r\nHELLO\r\nADD 1\r\nNO")
        for byte in b"OP\r\n":
            client.sendall(bytes([byte]))
        client.shutdown(socket.SHUT_WR)
        assert read_to_eof(client) == b"+OK\r\nWORLD\r\n2\r\n+OK\r\n"
    assert told(server) == []


def test_what_neither_a_step_nor_a_rule_matches_is_a_problem_of_the_step(
    server: StreamServer,
) -> None:
    server.script().expect(b"HELLO\r\n").send(b"WORLD\r\n")
    with plain_client(server.address) as client:
        client.sendall(b"NOPE\r\n")
        assert until_the_end(client) == b""
    (problem,) = told(server)
    assert problem.startswith(
        "MismatchError: server connection 0, step 1 of 2: "
        "expected b'HELLO\\r\\n', got b'NOPE\\r\\n'\n"
    )


@pytest.mark.parametrize("end", ["stalls", "ends"])
def test_half_a_request_of_a_rule_meets_the_deadline_of_the_step_or_the_end(
    sockets: Sockets, end: str
) -> None:
    server = sockets.tcp_server(framing=b"\r\n", name="server")
    server.on(b"NOOP\r\n", b"+OK\r\n")
    timeout = 0.2 if end == "stalls" else None
    server.script(timeout=FOREVER).expect(b"HELLO\r\n", timeout=timeout).send(b"WORLD\r\n")
    with plain_client(server.address) as client:
        client.sendall(b"NO")
        if end == "ends":
            client.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    (problem,) = told(server)
    assert problem.startswith(
        "MismatchError: server connection 0, step 1 of 2: expected b'HELLO\\r\\n', got b'NO'\n"
    )


def test_after_the_last_step_too(server: StreamServer) -> None:
    server.script().expect(b"HELLO\r\n").send(b"WORLD\r\n")
    talk(server, (b"HELLO", b"WORLD"), (b"NOOP", b"+OK"))
    with plain_client(server.address) as client:  # no script is left: the rules drive it
        client.sendall(b"NOOP\r\n")
        assert client.recv(100) == b"+OK\r\n"
    assert told(server) == []


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (lambda _: 1 // 0, "ZeroDivisionError: "),
        (lambda _: pytest.fail("by hand"), "Failed: by hand"),
        (lambda _: "text", "TypeError: what reply function <lambda> returns must be bytes"),
    ],
    ids=["error", "fail", "text"],
)
def test_what_a_reply_function_raises_is_the_problem(
    sockets: Sockets, reply: Callable[[Any], Any], problem: str
) -> None:
    server = sockets.tcp_server(name="server")
    server.on(b"DIVIDE", reply)
    server.script().expect(b"HELLO").send(b"WORLD")
    with plain_client(server.address) as client:
        client.sendall(b"DIVIDE")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    assert [text[: len(problem)] for text in told(server)] == [problem]


def test_silence_is_not_broken_by_a_rule(server: StreamServer, sockets: Sockets) -> None:
    gate = sockets.gate()
    server.script().expect(b"HELLO\r\n").expect_nothing(until=gate).send(b"WORLD\r\n")
    with plain_client(server.address) as client:
        client.sendall(b"HELLO\r\n")
        gate.wait_reached()
        client.sendall(b"NOOP\r\n")
        assert until_the_end(client) == b""
    (problem,) = told(server)
    assert "step 2 of 3: expected nothing until gate, got b'NOOP\\r\\n'" in problem


def test_a_rule_that_is_used_up_leaves_the_frame_to_the_step(sockets: Sockets) -> None:
    server = sockets.tcp_server(framing=b"\n", name="server")
    server.on(b"A\n", b"1\n", times=1)
    server.script().expect(b"B\n").send(b"2\n").expect(b"A\n").send(b"3\n")
    with plain_client(server.address) as client, client.makefile("rb") as lines:
        for request, reply in ((b"A\n", b"1\n"), (b"B\n", b"2\n"), (b"A\n", b"3\n")):
            client.sendall(request)
            assert lines.readline() == reply
    assert told(server) == []
