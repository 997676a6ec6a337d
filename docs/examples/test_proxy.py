"""A proxy before a real server."""

import socket
import socketserver
import threading

import pytest

from pytest_sockets.faults import AfterSent, BeforeSend, Close, Reset, Stall


class Store(socketserver.StreamRequestHandler):
    """Keeps values by their names: `SET name Ann` is answered by `OK`, `GET name` by `Ann`."""

    values = {}  # noqa: RUF012 - one for all connections, as in a real store

    def handle(self):
        for line in self.rfile:
            verb, name, *value = line.split(maxsplit=2)
            if verb == b"SET":
                self.values[name] = value[0]
                self.wfile.write(b"OK\n")
            else:
                self.wfile.write(self.values.get(name, b"").strip() + b"\n")


@pytest.fixture
def store_address():
    Store.values.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Store) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


class Client:
    """The code under test."""

    def __init__(self, address):
        self.sock = socket.create_connection(address)
        self.answers = self.sock.makefile("rb")

    def ask(self, request):
        self.sock.sendall(f"{request}\n".encode())
        answer = self.answers.readline()
        if not answer:
            raise ConnectionError("the store has gone")
        return answer.decode().strip()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.answers.close()
        self.sock.close()


def test_what_the_client_says(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)

    with Client(proxy.address) as client:
        assert client.ask("SET name Ann") == "OK"
        assert client.ask("GET name") == "Ann"

    proxy.client.assert_received(b"SET name Ann\nGET name\n")
    proxy.upstream.assert_received(b"OK\nAnn\n")


def test_one_connection_is_enough(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)

    with Client(proxy.address) as client:
        for number in range(10):
            client.ask(f"SET number {number}")

    proxy.upstream.assert_connections(1)
    assert proxy.upstream.connections[0].sent.count(b"SET") == 10


def test_the_value_is_there_once_it_was_acknowledged(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)

    with Client(proxy.address) as writer, Client(store_address) as reader:
        writing = threading.Thread(target=writer.ask, args=("SET colour blue",))
        writing.start()
        proxy.wait_forwarded(b"OK\n", direction="reply")

        assert reader.ask("GET colour") == "blue"
        writing.join()


def test_the_connection_is_lost_in_the_middle(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)

    with Client(proxy.address) as client:
        assert client.ask("SET name Ann") == "OK"
        proxy.client.connections[0].reset()

        with pytest.raises(ConnectionError):
            client.ask("GET name")

    with Client(proxy.address) as client:
        assert client.ask("GET name") == "Ann"


def test_the_store_goes_away(tcp_proxy, sockets):
    store = sockets.tcp_server(name="store")
    proxy = tcp_proxy(store)

    with Client(proxy.address) as client:
        store.accept().close()

        with pytest.raises(ConnectionError, match="the store has gone"):
            client.ask("GET name")


def test_the_store_is_down(tcp_proxy, refused_address):
    proxy = tcp_proxy(refused_address.address)

    with pytest.raises(ConnectionError):
        with Client(proxy.address) as client:
            client.ask("GET name")

    proxy.client.wait_closed(1)
    assert "upstream not reached: Connection refused" in proxy.transcript[-2].note


def test_a_reply_is_lost_on_the_way(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)
    proxy.fault(Close(), at=BeforeSend(), times=1)

    with Client(proxy.address) as client:
        with pytest.raises(ConnectionError, match="the store has gone"):
            client.ask("SET name Ann")

    with Client(proxy.address) as client:  # the store has the value, though nobody was told
        assert client.ask("GET name") == "Ann"


def test_a_request_is_cut_on_the_way(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)
    proxy.fault(Reset(), at=AfterSent(5), direction="request")

    with Client(proxy.address) as client:
        with pytest.raises(ConnectionError):
            client.ask("SET name Ann")

    proxy.upstream.assert_sent(b"SET n")


def test_the_network_hangs_for_a_while(tcp_proxy, store_address):
    proxy = tcp_proxy(store_address)

    with Client(proxy.address) as client:
        client.sock.settimeout(0.2)
        with proxy.fault(Stall()):
            with pytest.raises(TimeoutError):
                client.ask("SET name Ann")
            proxy.upstream.assert_received(b"OK\n")

    with Client(proxy.address) as client:  # the store has the value, though nobody was told in time
        assert client.ask("GET name") == "Ann"
