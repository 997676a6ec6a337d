"""Urgent bytes (MSG_OOB) are bytes of the stream, and stand where they were sent."""

from __future__ import annotations

import errno
import socket

import pytest

from pytest_sockets import MismatchError, Sockets, StreamServer
from pytest_sockets.faults import AfterReceived, Reset
from stream_ends import PATIENCE, Ends, plain_client, read_to_eof

pytestmark = pytest.mark.timeout(120)

URGENT = socket.MSG_OOB


def send_urgent(sock: socket.socket, data: bytes = b"!") -> None:
    """Send a byte as urgent, where the family has such bytes: AF_UNIX since Linux 5.15."""
    try:
        sock.send(data, URGENT)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip(f"AF_UNIX has no urgent bytes here: {error}")


def say(sock: socket.socket) -> None:
    """Send bytes with an urgent one among them."""
    sock.sendall(b"abc")
    send_urgent(sock)
    sock.sendall(b"def")


def test_an_urgent_byte_stands_among_the_others(ends: Ends) -> None:
    say(ends.peer)
    ends.conn.assert_received(b"abc!def", timeout=0)
    assert ends.conn.recv_until(b"!") == b"abc!"
    ends.conn.expect(b"def")


def test_a_single_urgent_byte_is_something(ends: Ends) -> None:
    send_urgent(ends.peer)
    with pytest.raises(MismatchError, match="received 1 byte, expected none: b'!'"):
        ends.conn.assert_nothing_received()


def test_each_of_several_is_there(ends: Ends) -> None:
    with ends.conn._endpoint._lock:  # nobody reads meanwhile
        for data in (b"1", b"2", b"3"):
            send_urgent(ends.peer, data)
        ends.peer.sendall(b".")
    ends.conn.assert_received(b"123.", timeout=0)


def test_the_plain_end_of_a_pair_is_as_any(sockets: Sockets) -> None:
    for pair in (sockets.tcp_socket_pair(), sockets.unix_socket_pair()):
        assert not pair.socket.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def server(request: pytest.FixtureRequest, sockets: Sockets) -> StreamServer:
    return sockets.stream_server(family=request.param)


def test_what_came_before_the_connection_was_accepted_is_there(server: StreamServer) -> None:
    with server._lock:
        client = plain_client(server.address)
        with client:
            for data in (b"1", b"2", b"3"):
                send_urgent(client, data)
            client.sendall(b".")
    server.assert_received(b"123.", timeout=0)


def test_what_comes_before_the_end_is_there(server: StreamServer) -> None:
    with plain_client(server.address) as client:
        conn = server.accept()
        with server._lock:
            say(client)
            server.close()
    assert conn.received == b"abc!def"


def test_a_server_that_was_down_takes_them_again(server: StreamServer) -> None:
    server.down()
    server.up()
    with plain_client(server.address) as client:
        say(client)
        server.assert_received(b"abc!def", timeout=0)


def test_a_fault_meets_its_moment_across_one(server: StreamServer) -> None:
    fault = server.fault(Reset(), at=AfterReceived(b"c!d"))
    with plain_client(server.address) as client:
        with server._lock:
            say(client)
        fault.wait_hit()
    assert server.received == b"abc!d"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_proxy_passes_it_on_as_any_other_byte(sockets: Sockets, kind: str) -> None:
    family = {"tcp": "ipv4", "unix": "unix"}[kind]
    upstream = sockets.stream_server(family=family)
    proxy = sockets.tcp_proxy(upstream)
    with plain_client(proxy.address) as client:
        say(client)
        upstream.assert_received(b"abc!def")
        proxy.client.assert_received(b"abc!def")
        proxy.upstream.assert_sent(b"abc!def")


def test_a_proxy_takes_one_from_the_real_server(sockets: Sockets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        proxy = sockets.tcp_proxy(listener.getsockname())
        with plain_client(proxy.address) as client:
            server, _ = listener.accept()
            with server:
                say(server)
            assert read_to_eof(client) == b"abc!def"
    proxy.upstream.assert_received(b"abc!def")
