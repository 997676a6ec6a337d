"""Thirteen ways in which the other end of a socket fails, each met by a client."""

import socket
import time

import pytest

from pytest_sockets.faults import (
    AfterSent,
    AtAccept,
    Close,
    Delay,
    Inject,
    OnFirstByte,
    Refuse,
    Reset,
    Stall,
    StopReading,
    Throttle,
)

LIMIT = 1000


class Refused(Exception):
    """What the client raises when its password is not taken."""


class Nonsense(Exception):
    """What the client raises for a reply that is none."""


def ask(address, *, timeout=5.0):
    """Log in and return the reply: within some seconds, and of no more than some bytes."""
    end = time.monotonic() + timeout
    with socket.create_connection(address, timeout=timeout) as sock:
        sock.sendall(b"LOGIN secret\r\n")
        head, body = read_line(sock, end, b"")
        if head == b"NO":
            raise Refused
        if not head.startswith(b"OK "):
            raise Nonsense(head)
        while len(body) < int(head[3:]):
            body += read(sock, end)
        return body


def read_line(sock, end, data):
    while b"\r\n" not in data:
        data += read(sock, end)
        if len(data) > LIMIT:
            raise Nonsense(f"{len(data)} bytes without an end")
    head, _, rest = data.partition(b"\r\n")
    return head, rest


def read(sock, end):
    sock.settimeout(max(end - time.monotonic(), 0.001))
    data = sock.recv(LIMIT)
    if not data:
        raise EOFError
    return data


@pytest.fixture
def server(tcp_server):
    tcp_server.on(b"LOGIN secret\r\n", b"OK 5\r\nhello")
    return tcp_server


def test_all_is_well(server):
    assert ask(server.address) == b"hello"


def test_the_connection_is_refused(refused_address):
    with pytest.raises(ConnectionRefusedError):
        ask(refused_address.address)


def test_a_server_refuses_that_served_before(server):
    assert ask(server.address) == b"hello"

    with server.fault(Refuse()):
        with pytest.raises(ConnectionRefusedError):
            ask(server.address)

    assert ask(server.address) == b"hello"


def test_the_queue_is_full_and_connecting_hangs(blackhole_address):
    with pytest.raises(TimeoutError):
        ask(blackhole_address.address, timeout=0.1)


def test_it_connects_and_nothing_comes(silent_server):
    with pytest.raises(TimeoutError):
        ask(silent_server.address, timeout=0.1)


def test_every_connection_is_reset(server):
    server.fault(Reset(), at=AtAccept())

    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            ask(server.address)


def test_nobody_reads_and_the_window_is_full(tcp_server):
    tcp_server.fault(StopReading())

    with socket.create_connection(tcp_server.address, timeout=0.1) as sock:
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(1_000_000))


def test_a_request_is_taken_and_never_answered(server):
    server.fault(Stall())

    with pytest.raises(TimeoutError):
        ask(server.address, timeout=0.1)

    server.assert_received(b"LOGIN secret\r\n")


def test_packets_are_lost_and_what_they_carried_comes_late(server):
    server.fault(Delay(0.2))

    assert ask(server.address) == b"hello"


def test_a_connection_goes_dead_in_the_middle(tcp_server):
    tcp_server.fault(StopReading(), at=OnFirstByte())

    with socket.create_connection(tcp_server.address, timeout=0.1) as sock:
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(10_000_000))


def test_the_head_of_a_reply_comes_and_the_body_never(server):
    server.fault(Stall(), at=AfterSent(len(b"OK 5\r\n")))

    with pytest.raises(TimeoutError):
        ask(server.address, timeout=0.1)


def test_a_reply_comes_byte_by_byte(server):
    server.fault(Throttle(20))  # 1 / 30 for a byte each thirty seconds

    with pytest.raises(TimeoutError):
        ask(server.address, timeout=0.2)


def test_something_else_comes_than_a_reply(server):
    server.fault(Inject(b"<html><body>It works!</body></html>\r\n"), at=OnFirstByte())

    with pytest.raises(Nonsense):
        ask(server.address)


def test_a_reply_does_not_end(tcp_server):
    tcp_server.script().expect(b"LOGIN secret\r\n").optional().send(bytes(10_000_000))

    with pytest.raises(Nonsense, match="without an end"):
        ask(tcp_server.address)


def test_a_server_does_not_stop_sending(sockets):
    with pytest.raises(Nonsense):
        ask(sockets.chargen_server().address)


def test_a_reply_is_cut(server):
    server.fault(Close(), at=AfterSent(8))

    with pytest.raises(EOFError):
        ask(server.address)


def test_no_password_is_taken(tcp_server):
    tcp_server.on(b"LOGIN secret\r\n", b"NO\r\n")

    with pytest.raises(Refused):
        ask(tcp_server.address)
