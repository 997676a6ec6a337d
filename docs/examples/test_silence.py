"""A client that must not send, and what proves that it did not."""

import socket

import pytest


class Store:
    """A client of a key-value server that remembers the answers."""

    def __init__(self, address):
        self.socket = socket.create_connection(address)
        self.stream = self.socket.makefile("rwb")
        self.known = {}

    def get(self, key):
        if key not in self.known:
            self.stream.write(f"GET {key}\n".encode())
            self.stream.flush()
            self.known[key] = self.stream.readline().decode().strip()
        return self.known[key]

    def forget(self):
        self.known.clear()

    def close(self):
        self.stream.close()
        self.socket.close()


@pytest.fixture
def store(tcp_server):
    store = Store(tcp_server.address)
    yield store
    store.close()


def test_connecting_sends_nothing(store, tcp_server):
    tcp_server.assert_connections(1)
    tcp_server.assert_nothing_received()


def test_the_second_answer_comes_from_memory(store, tcp_server):
    tcp_server.script().expect(b"GET name\n").send(b"Ann\n")

    assert store.get("name") == "Ann"
    assert store.get("name") == "Ann"


def test_what_is_forgotten_is_asked_for_again(store, tcp_server, sockets):
    forgotten = sockets.gate(name="forgotten")
    script = tcp_server.script()
    script.expect(b"GET name\n").send(b"Ann\n")
    script.expect_nothing(until=forgotten)
    script.expect(b"GET name\n").send(b"Bob\n")

    assert store.get("name") == "Ann"
    assert store.get("name") == "Ann"
    forgotten.release()
    store.forget()
    assert store.get("name") == "Bob"


def test_it_does_not_ask_by_itself(store, tcp_server):
    conn = tcp_server.accept()

    conn.expect_nothing(within=0.05)
