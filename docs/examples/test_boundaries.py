"""A client's parser sees a reply in exactly the pieces that the test chooses."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_sockets import capabilities

REPLY = b"OK 5\r\nhello"


def fetch(address):
    """Read one reply: a line with a length, and so many bytes."""
    with socket.create_connection(address) as sock:
        data = b""
        while b"\r\n" not in data:
            data += read(sock)
        head, _, body = data.partition(b"\r\n")
        size = int(head.removeprefix(b"OK "))
        while len(body) < size:
            body += read(sock)
        return body


def read(sock):
    data = sock.recv(4096)
    if not data:
        raise ConnectionError("the reply was cut off")
    return data


@pytest.fixture
def beside():
    """Run functions in threads, beside the test."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_a_line_end_in_two_pieces(tcp_server, beside):
    body = beside(fetch, tcp_server.address)

    with tcp_server.accept() as conn:
        conn.send_apart(b"OK 5\r", b"\nhel", b"lo")

    assert body.result() == b"hello"


@pytest.mark.parametrize("cut", range(1, len(REPLY)))
def test_a_reply_cut_anywhere(tcp_server, beside, cut):
    body = beside(fetch, tcp_server.address)

    with tcp_server.accept() as conn:
        conn.send_apart(REPLY[:cut], REPLY[cut:])

    assert body.result() == b"hello"


def test_the_client_has_read_the_first_line(tcp_server, beside):
    body = beside(fetch, tcp_server.address)

    with tcp_server.accept() as conn:
        conn.send(b"OK 5\r\n")
        conn.wait_peer_read()
        # The client waits for the body now, and has nothing of it.
        conn.send(b"hello")

    assert body.result() == b"hello"


@pytest.mark.skipif(capabilities["send_apart"] != "exact", reason="needs exact boundaries")
def test_where_boundaries_are_exact(tcp_socket_pair):
    sock, peer = tcp_socket_pair

    peer.send_apart(b"one")

    assert peer.peer_state.unread == 3
    assert sock.recv(4096) == b"one"
    assert peer.peer_state.unread == 0
