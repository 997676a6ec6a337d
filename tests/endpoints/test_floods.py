"""A client that sends far more than was expected: what is said of it takes little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_sockets import Connection, MismatchError, PeerGoneError, Settings, Sockets, WaitTimeout
from pytest_sockets._endpoints.faces import drive
from pytest_sockets._engine.clock import Deadline
from stream_ends import PATIENCE, plain_client
from told import told

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unwatched")]

PIECE = b"x" * (1 << 16)
PIECES = 512
FLOOD = PIECES * len(PIECE)
LIMIT = 1 << 20
"""Bytes of a record in memory."""
MOST = 8 * LIMIT
"""What may be in use at once: the record up to its limit, a batch that is written, a few reads."""


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with Sockets(Settings(timeout=PATIENCE, record_limit=LIMIT)) as sockets:
        yield sockets


@contextmanager
def little_memory() -> Iterator[None]:
    """Require that what happens inside takes little memory at any time."""
    assert MOST < FLOOD / 2
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST


def await_flood(conn: Connection) -> None:
    """Wait until all of it is in the record.

    That the client's kernel has taken it is not enough: with little room on our side it keeps a
    part of it back, and sends that when the window has been opened.
    """
    needed = (conn._stream.received, FLOOD)
    assert not drive(conn._endpoint._waited(Deadline(PATIENCE), needed), "await_flood")


Verb = Callable[[Connection], object]
VERBS: dict[str, tuple[Verb, type[AssertionError], str]] = {
    "expect": (lambda conn: conn.expect(b"HELLO"), MismatchError, "received  b'xxxxx'"),
    "recv_line": (lambda conn: conn.recv_line(timeout=0), WaitTimeout, "(33,554,432 bytes)"),
    "expect_eof": (lambda conn: conn.expect_eof(), MismatchError, "but 33,554,432 bytes came: b'x"),
    "expect_nothing": (
        lambda conn: conn.expect_nothing(within=0),
        MismatchError,
        "but 33,554,432 bytes came: b'x",
    ),
    "assert_received": (
        lambda conn: conn.assert_received(b"HELLO"),
        MismatchError,
        "(bytes 0 to 48 of 33,554,432)",
    ),
    "assert_nothing_received": (
        lambda conn: conn.assert_nothing_received(),
        MismatchError,
        "received 33,554,432 bytes, expected none: b'x",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_meets_a_flood_says_how_much_came(sockets: Sockets, verb: str) -> None:
    call, kind, text = VERBS[verb]
    server = sockets.tcp_server()
    with little_memory(), plain_client(server.address) as client:
        conn = server.accept()
        for _ in range(PIECES):
            client.sendall(PIECE)
        await_flood(conn)
        with pytest.raises(kind) as caught:
            call(conn)
        assert text in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_server_that_meets_a_flood_says_so_in_short(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with little_memory(), plain_client(server.address) as client:
        for _ in range(PIECES):
            client.sendall(PIECE)
        await_flood(server.connections[0])
        for claim in (server.assert_nothing_received, lambda: server.assert_received(b"HELLO")):
            with pytest.raises(MismatchError, match="bytes 0 to 48 of 33,554,432"):
                claim()


def test_a_flood_that_ends_is_told_with_its_size(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    with little_memory():
        with plain_client(server.address) as client:
            for _ in range(PIECES):
                client.sendall(PIECE)
        with pytest.raises(PeerGoneError, match=r"the peer sent EOF; unread: .*\(33,554,432 byte"):
            server.accept().recv_until(b"\r\n")


def test_a_script_that_meets_a_flood_says_how_much_came(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    server.script().recv_line().send(b"x")
    with little_memory():
        with plain_client(server.address) as client:
            for _ in range(PIECES):
                client.sendall(PIECE)
        with pytest.raises(MismatchError):
            server.wait_closed(2)  # until the script has met the end of it
        (problem,) = told(server)
    assert problem.startswith(
        r"MismatchError: tcp_server connection 0, step 1 of 2: expected bytes up to b'\n', got b'x"
    )
    assert "(bytes 0 to 48 of 33,554,432)" in problem
    assert problem.endswith("\n  no more can come: the peer sent EOF")


def test_rules_wait_for_the_end_of_a_frame_in_little_memory(sockets: Sockets) -> None:
    server = sockets.tcp_server(framing=b"\n")
    server.on(b"HELLO\n", b"x")
    with little_memory():
        with plain_client(server.address) as client:
            for _ in range(PIECES):
                client.sendall(PIECE)
        server.wait_closed(1)
    assert told(server) == []
