"""Settings for one test, and for endpoints outside of fixtures."""

import socket

import pytest

from pytest_sockets import EchoServer, Settings, WaitTimeout


@pytest.mark.sockets(timeout=30)
def test_a_slow_client(tcp_server):
    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(b"hello")

        tcp_server.accept().expect(b"hello")  # waits up to 30 seconds


def test_nobody_is_there_yet(tcp_server):
    with pytest.raises(WaitTimeout):
        tcp_server.accept(timeout=0)  # only a connection that has arrived already


@pytest.mark.sockets(strict=False)
def test_a_client_that_says_more_than_it_has_to(tcp_server):
    tcp_server.script().expect(b"hello").send(b"goodbye")

    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(b"hello, my name is Ann")
        assert sock.recv(100) == b"goodbye"


def test_without_fixtures():
    with EchoServer(settings=Settings(timeout=30)) as server:
        with socket.create_connection(server.address) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
