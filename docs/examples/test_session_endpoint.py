"""One endpoint for all tests of a session."""

import socket

import pytest

from pytest_sockets import EchoServer, Settings


@pytest.fixture(scope="session")
def shared_server():
    with EchoServer(name="shared_server", settings=Settings(timeout=10)) as server:
        yield server


@pytest.fixture
def client(shared_server):
    """A client of the shared server, and our side of its connection."""
    with socket.create_connection(shared_server.address) as sock:
        yield sock, shared_server.accept()


@pytest.mark.parametrize("word", [b"one", b"two"])
def test_a_word_comes_back(client, word):
    sock, connection = client

    sock.sendall(word)

    assert sock.recv(100) == word
    connection.assert_received(word)
