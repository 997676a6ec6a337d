"""A client that has to live through an outage of its server."""

import socket

import pytest


class Store:
    """A client that connects when it has to, and once again where it has lost the connection."""

    def __init__(self, address):
        self.address = address
        self.sock = None

    def get(self, key):
        if self.sock is not None:
            try:
                return self._ask(key)
            except OSError:
                self.close()
        self.sock = socket.create_connection(self.address)
        return self._ask(key)

    def _ask(self, key):
        self.sock.sendall(f"GET {key}\n".encode())
        answer = self.sock.recv(100)
        if not answer:
            raise ConnectionError("the server has gone")
        return answer.decode().strip()

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None


@pytest.fixture
def server(sockets):
    server = sockets.tcp_server(framing=b"\n")
    server.on(b"GET name\n", b"Ann\n")
    return server


@pytest.fixture
def store(server):
    store = Store(server.address)
    yield store
    store.close()


def test_the_server_comes_back(server, store):
    server.down()
    with pytest.raises(ConnectionRefusedError):
        store.get("name")

    server.up()
    assert store.get("name") == "Ann"


def test_the_server_is_started_again(server, store):
    assert store.get("name") == "Ann"

    server.down(reset=True)
    server.up()

    assert store.get("name") == "Ann"
    server.assert_connections(2)


def test_an_open_connection_is_used_on(server, store):
    assert store.get("name") == "Ann"

    server.down()

    assert store.get("name") == "Ann"
    server.assert_connections(1)
