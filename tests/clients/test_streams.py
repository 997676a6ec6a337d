"""Programs that speak to stream servers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from programs import LIMIT, STREAM_CLIENTS, ask, heard, program, running, tell
from pytest_sockets import EchoServer, Sockets, TCPServer, UnixServer

# Programs start in their own time.
pytestmark = pytest.mark.sockets(timeout=LIMIT)

QUESTION = bytes(range(256)) * 1000


@pytest.mark.parametrize("client", STREAM_CLIENTS)
def test_a_program_gets_its_bytes_back(any_echo_server: EchoServer, client: str) -> None:
    assert ask(STREAM_CLIENTS, client, any_echo_server, QUESTION) == QUESTION

    any_echo_server.assert_connections(1)
    any_echo_server.assert_received(QUESTION)
    any_echo_server.assert_sent(QUESTION)
    (conn,) = any_echo_server.connections
    assert conn.peer_ended == "eof"
    assert conn.is_closed


def test_programs_side_by_side_each_get_their_own_bytes(any_echo_server: EchoServer) -> None:
    names = ("nc", "socat", "nc")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(running(*STREAM_CLIENTS[name][1](any_echo_server)))
            for name in names
        ]
        any_echo_server.wait_connections(len(clients))
        for number, client in enumerate(clients):
            tell(client, b"I am %d\n" % number)
        for number, client in reversed(list(enumerate(clients))):
            assert heard(client, 7) == b"I am %d\n" % number

    received = sorted(conn.received for conn in any_echo_server.connections)
    assert received == [b"I am 0\n", b"I am 1\n", b"I am 2\n"]


@pytest.mark.parametrize("client", ["nc", "socat"])
def test_a_server_speaks_first_and_leaves_first(tcp_server: TCPServer, client: str) -> None:
    with running(*STREAM_CLIENTS[client][1](tcp_server)) as process:
        conn = tcp_server.accept()
        conn.send(b"220 ready\r\n")
        assert heard(process, 11) == b"220 ready\r\n"
        tell(process, b"QUIT\r\n")
        conn.expect(b"QUIT\r\n")
        conn.send(b"221 bye\r\n")
        conn.close()
        assert heard(process, 9) == b"221 bye\r\n"
    conn.expect_eof()


def test_a_program_reaches_an_abstract_name(sockets: Sockets) -> None:
    server: UnixServer = sockets.unix_server(abstract=True)
    with running(program("socat"), "-", f"ABSTRACT-CONNECT:{server.path[1:]}") as process:
        conn = server.accept()
        tell(process, b"ping")
        conn.expect(b"ping")
        conn.send(b"pong")
        assert heard(process, 4) == b"pong"
        conn.close()
    conn.expect_eof()
