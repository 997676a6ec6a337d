"""A gate stops the server where the test wants it, for as long as the test wants."""

import queue
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest


def download(address, report=lambda number: None):
    """Return the lines that a server sends, and report how many have come."""
    lines = []
    with socket.create_connection(address) as sock, sock.makefile("rb") as stream:
        sock.sendall(b"GET\n")
        for line in stream:
            lines.append(line)
            report(len(lines))
    return lines


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
    tcp_server.script().expect(b"GET\n").send(b"one\n").hold(half).send(b"two\n").close()
    numbers = queue.SimpleQueue()

    lines = beside(download, tcp_server.address, numbers.put)
    half.wait_reached()
    assert numbers.get(timeout=10) == 1
    assert not lines.done()

    half.release()
    assert lines.result() == [b"one\n", b"two\n"]


def test_both_downloads_run_at_once(beside, sockets):
    both = sockets.gate(name="both")
    servers = [sockets.tcp_server() for _ in range(2)]
    for server in servers:
        server.script().expect(b"GET\n").hold(both).send(b"one\n").close()

    downloads = beside(download_all, [server.address for server in servers])
    both.wait_reached(2)

    both.release()
    assert downloads.result() == [[b"one\n"], [b"one\n"]]


def test_a_handler_holds(beside, tcp_server, sockets):
    asked = sockets.gate(name="asked")

    @tcp_server.serve
    def answer(conn):
        conn.expect(b"GET\n")
        conn.hold(asked)
        conn.send(b"one\n")

    lines = beside(download, tcp_server.address)
    asked.wait_reached()
    asked.release()

    assert lines.result() == [b"one\n"]
