"""Addresses that nobody serves, and a port for a server under test."""

import asyncio
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest


class Unavailable(Exception):
    """What the client under test raises."""


def first_line(addresses, timeout=0.1):
    """Read a line from the first address that answers in time."""
    for address in addresses:
        try:
            with socket.create_connection(address, timeout) as sock, sock.makefile("rb") as file:
                return file.readline()
        except TimeoutError:
            reason = "no answer"
        except ConnectionRefusedError:
            reason = "refused"
    raise Unavailable(reason)


def test_a_refused_connection(refused_address):
    with pytest.raises(Unavailable, match="refused"):
        first_line([refused_address.address])


def test_the_next_address_is_tried(refused_address, tcp_server):
    tcp_server.script().send(b"ready\n")

    assert first_line([refused_address.address, tcp_server.address], timeout=5) == b"ready\n"


def test_a_connection_that_hangs(blackhole_address):
    with pytest.raises(Unavailable, match="no answer"):
        first_line([blackhole_address.address])


def test_over_ipv6(sockets):
    sockets.require("ipv6", "blackhole_address")
    hole = sockets.blackhole_address(family="ipv6")

    with pytest.raises(Unavailable, match="no answer"):
        first_line([hole.address])


class Hello(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"hello\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True  # SO_REUSEADDR


@contextmanager
def serving(address):
    """Run the server under test."""
    with Server(address, Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_a_server_that_is_started_again(reserved_port, raw_client):
    for _ in range(2):
        with serving(reserved_port.address), raw_client(reserved_port.address) as client:
            client.expect(b"hello\n")
            client.expect_eof()
        with pytest.raises(ConnectionRefusedError):
            raw_client(reserved_port.address)


def test_a_server_in_a_subprocess(reserved_port, raw_client):
    command = [sys.executable, "-u", "-m", "http.server", str(reserved_port.port)]
    with subprocess.Popen([*command, "--bind", "127.0.0.1"], stdout=subprocess.PIPE) as server:
        server.stdout.readline()  # it says that it serves
        with raw_client(reserved_port.address) as client:
            client.send(b"HEAD / HTTP/1.0\r\n\r\n")
            assert client.recv_line() == b"HTTP/1.0 200 OK\r\n"
        server.terminate()


async def hello(reader, writer):
    writer.write(b"hello\n")
    writer.close()


def test_a_server_that_takes_a_socket(reserved_port):
    async def main():
        async with await asyncio.start_server(hello, sock=reserved_port.socket):
            reader, writer = await asyncio.open_connection(*reserved_port.address)
            assert await reader.readline() == b"hello\n"
            writer.close()

    asyncio.run(main())


# What stands here for a program that takes `--fd`.
BY_DESCRIPTOR = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    listener.listen()
    with listener.accept()[0] as sock:
        sock.sendall(b"hello")
"""


def test_a_server_that_takes_a_descriptor(reserved_port, raw_client):
    reserved_port.socket.listen()  # so that nobody has to wait for the server
    number = reserved_port.fileno()
    command = [sys.executable, "-c", BY_DESCRIPTOR, str(number)]
    with subprocess.Popen(command, pass_fds=[number]):
        with raw_client(reserved_port.address) as client:
            client.expect(b"hello", timeout=30)
            client.expect_eof()


def test_a_server_without_reuseaddr(reserved_port, raw_client):
    with socket.socket() as listener:
        reserved_port.release()
        listener.bind(reserved_port.address)
        listener.listen()
        raw_client(reserved_port.address)
