"""A client meets connections that break, stall, or carry other bytes than it expects."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    Close,
    Corrupt,
    Delay,
    Inject,
    OnFirstByte,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
)

REPLY = b"OK 5\r\nhello"


class Incomplete(Exception):
    """What the client raises for a reply that is not whole."""


def fetch(address, *, timeout=5.0):
    """Ask for a reply: a line with a length, and so many bytes, all within some seconds."""
    end = time.monotonic() + timeout
    with socket.create_connection(address, timeout=timeout) as sock:
        sock.sendall(b"GET\r\n")
        data = b""
        while b"\r\n" not in data:
            data += read(sock, end)
        head, _, body = data.partition(b"\r\n")
        if not head.startswith(b"OK "):
            raise Incomplete(f"no reply: {head!r}")
        size = int(head.removeprefix(b"OK "))
        while len(body) < size:
            body += read(sock, end)
        return body


def read(sock, end):
    sock.settimeout(max(end - time.monotonic(), 0.001))
    data = sock.recv(4096)
    if not data:
        raise Incomplete("the reply was cut off")
    return data


def fetch_again(address, *, tries=3):
    """Try again when the connection breaks."""
    for left in reversed(range(tries)):
        try:
            return fetch(address)
        except (Incomplete, ConnectionError):
            if not left:
                raise


@pytest.fixture
def server(tcp_server):
    """Answer every request; what goes wrong is up to each test."""
    tcp_server.on(b"GET\r\n", REPLY)
    return tcp_server


# -- break


def test_a_reply_is_cut_in_the_middle(server):
    server.fault(Close(), at=AfterSent(8))

    with pytest.raises(Incomplete):
        fetch(server.address)


@pytest.mark.parametrize("effect", [Close(), Reset()])
@pytest.mark.parametrize("sent", [0, 1, 5, 6, 10])
def test_a_connection_ends_anywhere(server, effect, sent):
    server.fault(effect, at=AfterSent(sent))

    with pytest.raises((Incomplete, ConnectionResetError)):
        fetch(server.address)


def test_a_reset_after_the_request(server):
    server.fault(Reset(), at=AfterReceived(b"\r\n"))

    with pytest.raises(ConnectionResetError):
        fetch(server.address)


def test_the_first_two_fail(server):
    fault = server.fault(Reset(), at=AtAccept(), times=2)

    assert fetch_again(server.address) == b"hello"

    assert fault.hits == 2
    server.assert_connections(3)


def test_only_the_second_connection_fails(server):
    server.fault(Reset(), at=OnFirstByte(), connection=1)

    assert fetch(server.address) == b"hello"
    with pytest.raises(ConnectionResetError):
        fetch(server.address)
    assert fetch(server.address) == b"hello"


def test_junk_comes_instead_of_the_reply(server):
    server.fault(Inject(b"<html>\r\n"), at=OnFirstByte())

    with pytest.raises(Incomplete, match="no reply"):
        fetch(server.address)


def test_a_byte_is_damaged(server):
    server.fault(Corrupt(1), at=AfterSent(7))

    body = fetch(server.address)

    assert len(body) == 5
    assert body != b"hello"


def test_every_byte_is_a_read_of_its_own(server):
    server.fault(Slice(1))

    assert fetch(server.address) == b"hello"


def test_our_side_of_a_pair_closes(unix_socket_pair):
    sock, peer = unix_socket_pair
    unix_socket_pair.fault(Close(), at=AfterSent(3))

    peer.send(b"hello")

    assert sock.recv(10) == b"hel"
    assert sock.recv(10) == b""


def test_a_server_under_test_sees_its_client_vanish(raw_client):
    with socket.create_server(("127.0.0.1", 0)) as under_test:
        client = raw_client(under_test.getsockname())
        client.endpoint.fault(Reset(), at=AfterSent(3))
        client.send(b"hello")

        conn, _ = under_test.accept()
        with conn:
            assert conn.recv(10) == b"hel"
            with pytest.raises(ConnectionResetError):
                conn.recv(10)


# -- time out


def test_a_reply_stops_in_the_middle(server):
    server.fault(Stall(), at=AfterSent(6))

    with pytest.raises(TimeoutError):
        fetch(server.address, timeout=0.1)


def test_a_reply_goes_on_after_a_stall(server):
    with ThreadPoolExecutor() as beside:
        with server.fault(Stall(), at=AfterSent(6)) as stall:
            body = beside.submit(fetch, server.address)
            stall.wait_hit()
            # The client has the first line, and waits.
            server.assert_sent(REPLY[:6])
        assert body.result() == b"hello"


def test_a_reply_comes_too_late(server):
    server.fault(Delay(60))

    with pytest.raises(TimeoutError):
        fetch(server.address, timeout=0.1)


def test_a_reply_trickles(server):
    server.fault(Throttle(20))  # a byte each 50 ms: a timeout for each read would not notice

    with pytest.raises(TimeoutError):
        fetch(server.address, timeout=0.2)


def test_nobody_reads_what_the_client_sends(tcp_server):
    tcp_server.fault(StopReading())

    with socket.create_connection(tcp_server.address, timeout=0.1) as sock:
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(1_000_000))


def test_a_fault_that_only_some_runs_meet(server):
    server.fault(Stall(), at=AfterSent(1_000), must_hit=False)

    assert fetch(server.address) == b"hello"
