"""A reply goes wrong at each of its bytes: the client says so, or has the right answer."""

import socket

import pytest

from pytest_sockets import cuts, splits
from pytest_sockets.faults import AfterSent, Close, Reset, Slice, Stall

REPLY = b"VALUE name 0 3\r\nAnn\r\nEND\r\n"


class LookupFailed(Exception):
    pass


def get(address, key, timeout=5):
    """Ask a memcached server for a value."""
    try:
        with socket.create_connection(address, timeout=timeout) as sock:
            sock.sendall(f"get {key}\r\n".encode())
            with sock.makefile("rb") as reply:
                size = int(whole(reply.readline()).split()[3])
                value = whole(reply.read(size + 2))
                whole(reply.readline())
                return value
    except (OSError, ValueError) as error:
        raise LookupFailed(key) from error


def whole(line):
    if not line.endswith(b"\r\n"):
        raise LookupFailed(f"the reply ends with {line!r}")
    return line.removesuffix(b"\r\n")


@pytest.mark.parametrize("cut", cuts(REPLY))
def test_a_reply_that_is_cut_off(tcp_server, cut):
    tcp_server.script().expect(b"get name\r\n").send(REPLY)
    tcp_server.fault(Close(), at=AfterSent(cut))

    with pytest.raises(LookupFailed):
        get(tcp_server.address, "name")


@pytest.mark.parametrize("split", splits(REPLY))
def test_a_reply_in_two_pieces(tcp_server, split):
    tcp_server.script().expect(b"get name\r\n").send_apart(*split)

    assert get(tcp_server.address, "name") == b"Ann"


def look_up(sockets):
    server = sockets.tcp_server()
    server.script().expect(b"get name\r\n").send(REPLY).close()
    try:
        value = get(server.address, "name")
    except LookupFailed:
        return
    assert value == b"Ann"


def test_whatever_ends_the_reply(sweep):
    sweep(look_up, Close(), Reset())


def test_wherever_the_reply_is_cut_in_two(sweep):
    def talk(sockets):
        server = sockets.tcp_server()
        server.script().expect(b"get name\r\n").send(REPLY).close()
        assert get(server.address, "name") == b"Ann"

    sweep(talk, Slice())


def test_a_server_that_falls_silent(sweep):
    def talk(sockets):
        server = sockets.tcp_server()
        server.script().expect(b"get name\r\n").send(REPLY)
        try:
            assert get(server.address, "name", timeout=0.1) == b"Ann"
        except LookupFailed:
            pass

    sweep(talk, Stall(), most=5)


def test_a_client_that_tries_again(sweep):
    def talk(sockets):
        server = sockets.tcp_server()
        server.script(each=True).expect(b"get name\r\n").send(REPLY).close()
        try:
            value = get(server.address, "name")
        except LookupFailed:
            value = get(server.address, "name")
        assert value == b"Ann"

    sweep(talk, Reset())
