import re
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from pytest_sockets import Sockets, SocketsError, StreamServer, WaitTimeout
from stream_ends import CONSUMING, FOREVER, Background, abort, plain_client, read_to_eof

FAMILIES = ["ipv4", "ipv6", "dual", "unix"]
LARGE = bytes(range(256)) * 4096 * 4

pytestmark = pytest.mark.timeout(120)

Start = Callable[[str], StreamServer]


@pytest.fixture(params=FAMILIES)
def start(request: pytest.FixtureRequest, sockets: Sockets) -> Start:
    def start(kind: str) -> StreamServer:
        opened: StreamServer = getattr(sockets, f"{kind}_server")(family=request.param)
        return opened

    return start


# -- echo, RFC 862


def test_echo_sends_back_all_that_it_receives_and_then_closes(start: Start) -> None:
    server = start("echo")
    for address in server.addresses:
        with plain_client(address) as client, Background() as pool:
            reading = pool.submit(read_to_eof, client)
            client.sendall(LARGE)
            client.shutdown(socket.SHUT_WR)
            assert reading.result() == LARGE
    server.wait_closed(len(server.addresses))
    for conn in server.connections:
        assert conn.received == conn.sent == LARGE
        assert (conn.peer_ended, conn.is_closed) == ("eof", True)


def test_echo_goes_on_after_the_client_has_not_read_for_a_while(start: Start) -> None:
    server = start("echo")
    content = LARGE * 2  # a kernel that nobody reads from takes half of it
    with plain_client(server.address) as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        server.assert_received(content)
        assert len(server.sent) < len(content)
        assert read_to_eof(client) == content
    server.assert_sent(content)


@pytest.mark.parametrize("kind", ["echo", "discard", "chargen", "silent"])
def test_clients_that_vanish_are_no_problem_and_others_are_served(start: Start, kind: str) -> None:
    server = start(kind)
    with plain_client(server.address) as closing, plain_client(server.address) as staying:
        resetting = plain_client(server.address)
        resetting.sendall(LARGE[:1000])
        if server.family == "unix":
            resetting.close()
        else:
            abort(resetting)
        closing.sendall(LARGE[:1000])
        closing.close()
        staying.sendall(b"still here")
        if kind in ("echo", "chargen"):
            assert staying.recv(1) in (b"s", b" ")
        server.assert_connections(3)
        for conn in server.connections:
            if conn.index != 1:
                conn.assert_received(LARGE[:1000])
        server.check()


# -- discard, RFC 863


def test_discard_takes_all_answers_nothing_and_closes_after_eof(start: Start) -> None:
    server = start("discard")
    with plain_client(server.address) as client:
        client.sendall(LARGE)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    server.assert_received(LARGE)
    server.assert_sent(b"")
    server.wait_closed(1)


# -- chargen, RFC 864


def chargen_lines() -> Iterator[bytes]:
    """Yield the lines of the pattern in RFC 864: 72 of the 95 printing characters, turning."""
    start = 0
    while True:
        yield bytes(0x20 + (start + column) % 95 for column in range(72)) + b"\r\n"
        start += 1


def test_chargen_sends_the_pattern_line_by_line_whatever_it_receives(start: Start) -> None:
    server = start("chargen")
    with plain_client(server.address) as client, client.makefile("rb") as file:
        client.sendall(b"is ignored")
        for line in islice(chargen_lines(), 1000):
            assert file.readline() == line
    server.assert_received(b"is ignored")


def test_chargen_stops_after_the_clients_eof(start: Start) -> None:
    server = start("chargen")
    with plain_client(server.address) as client:
        client.shutdown(socket.SHUT_WR)
        text = read_to_eof(client)
    lines = text.split(b"\r\n")
    assert lines.pop() == b""
    assert all(map(bytes.__eq__, lines, (line[:-2] for line in chargen_lines())))
    server.wait_closed(1)
    server.assert_sent(text)


def test_the_pattern_is_the_one_of_the_rfc() -> None:
    first = rb""" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"""
    assert next(chargen_lines()) == first + b"\r\n"
    assert len(set(islice(chargen_lines(), 200))) == 95


# -- silence


def test_silence_is_not_even_an_eof(start: Start) -> None:
    server = start("silent")
    with plain_client(server.address) as client:
        client.sendall(b"anybody?")
        client.shutdown(socket.SHUT_WR)
        server.assert_received(b"anybody?")
        (conn,) = server.connections
        conn.wait_eof()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        assert not conn.is_closed
        with pytest.raises(WaitTimeout, match="it is driven by its silent behaviour"):
            conn.wait_closed(timeout=0)


# -- who drives

DRIVEN: dict[str, Callable[..., Any]] = {
    "send": lambda conn: conn.send(b"x"),
    **{name: verb for name, (verb, _) in CONSUMING.items()},
    "expect_eof": lambda conn: conn.expect_eof(),
    "expect_nothing": lambda conn: conn.expect_nothing(within=0),
}


@pytest.mark.parametrize("verb", DRIVEN)
@pytest.mark.parametrize("kind", ["echo", "silent", "discard", "chargen"])
def test_a_verb_on_a_driven_connection_says_who_drives_it(
    sockets: Sockets, kind: str, verb: str
) -> None:
    server: StreamServer = getattr(sockets, f"{kind}_server")()
    with plain_client(server.address):
        conn = server.accept()
        name = re.sub("_(until|size)$", "", verb) if verb.startswith("expect") else verb
        with pytest.raises(
            SocketsError,
            match=rf"^{kind}_server connection 0 is driven by its {kind} behaviour, so the test "
            rf"cannot {name}\(\) on it; wait, assert and read the record, or use tcp_server or "
            "unix_server instead$",
        ):
            DRIVEN[verb](conn)


@pytest.mark.parametrize("kind", ["echo", "silent", "discard", "chargen"])
def test_waits_asserts_and_the_record_work_on_a_driven_connection(start: Start, kind: str) -> None:
    server = start(kind)
    with plain_client(server.address) as client:
        conn = server.accept()
        client.sendall(b"ping")
        conn.assert_received(b"ping", timeout=FOREVER)
        conn.assert_received(contains=b"in")
        assert conn.received == b"ping"
        if kind == "echo":
            conn.assert_sent(b"ping")
        assert conn.peer_ended is None
        client.shutdown(socket.SHUT_WR)
        conn.wait_eof(timeout=FOREVER)
        assert conn.peer_ended == "eof"
        if kind != "silent":
            read_to_eof(client)
            conn.wait_closed(timeout=FOREVER)
        assert conn.is_closed == (kind != "silent")
        assert [event.kind for event in conn.transcript if event.kind != "sent"][:3] == [
            "accepted",
            "received",
            "peer_eof",
        ]


def test_a_reset_is_awaited_on_a_driven_connection(sockets: Sockets) -> None:
    server = sockets.silent_server()
    abort(plain_client(server.address))
    server.accept().expect_reset(timeout=FOREVER)


@pytest.mark.parametrize("kind", ["echo", "silent", "discard", "chargen"])
def test_the_test_may_end_a_driven_connection(sockets: Sockets, kind: str) -> None:
    server = getattr(sockets, f"{kind}_server")()
    with plain_client(server.address) as client:
        server.accept().close()
        read_to_eof(client)
    with plain_client(server.address) as client:
        server.accept().reset()
        with pytest.raises(ConnectionResetError):
            read_to_eof(client)
    server.check()
