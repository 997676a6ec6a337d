"""A gate stops the server where the test wants it, for as long as the test wants."""

import queue
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest


def download(address, report=lambda size: None):
    """Return what a server sends, and report how much of it has come."""
    content = b""
    with socket.create_connection(address) as sock:
        sock.sendall(b"GET\n")
        while chunk := sock.recv(1000):
            content += chunk
            report(len(content))
    return content


def download_all(addresses):
    """Download from several servers at once."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(download, addresses))


@pytest.fixture
def beside():
    """Run functions in threads, beside the test."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_progress_is_reported_before_the_end(beside, tcp_server, sockets):
    half = sockets.gate(name="half")
    tcp_server.script().expect(b"GET\n").send(b"hello, ").hold(half).send(b"world").close()
    sizes = queue.SimpleQueue()

    content = beside(download, tcp_server.address, sizes.put)
    half.wait_reached()
    assert sizes.get(timeout=10) == len(b"hello, ")
    assert not content.done()

    half.release()
    assert content.result() == b"hello, world"


def test_both_downloads_run_at_once(beside, sockets):
    both = sockets.gate(name="both")
    servers = [sockets.tcp_server() for _ in range(2)]
    for server in servers:
        server.script().expect(b"GET\n").hold(both).send(b"hello").close()

    contents = beside(download_all, [server.address for server in servers])
    both.wait_reached(2)

    both.release()
    assert contents.result() == [b"hello", b"hello"]


def test_a_handler_holds(beside, tcp_server, sockets):
    asked = sockets.gate(name="asked")

    @tcp_server.serve
    def answer(conn):
        conn.expect(b"GET\n")
        conn.hold(asked)
        conn.send(b"hello")

    content = beside(download, tcp_server.address)
    asked.wait_reached()
    asked.release()

    assert content.result() == b"hello"
