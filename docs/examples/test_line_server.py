"""A server under test, and raw clients that talk to it."""

import socketserver
import threading

import pytest


class Lines(socketserver.StreamRequestHandler):
    """Answers each line in capital letters, and refuses what is no text."""

    def handle(self):
        self.wfile.write(b"ready\n")
        for line in self.rfile:
            try:
                self.wfile.write(line.decode("ascii").upper().encode())
            except UnicodeDecodeError:
                self.wfile.write(b"? not ASCII\n")
                return


@pytest.fixture
def server_address():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Lines) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


def test_a_line_comes_back_in_capitals(raw_client, server_address):
    with raw_client(server_address) as client:
        client.expect(b"ready\n")
        client.send(b"hello\n")
        client.expect(b"HELLO\n")


def test_junk_is_refused_and_the_connection_closed(raw_client, server_address):
    with raw_client(server_address) as client:
        client.send(b"\xff\xfe\n")
        client.expect(b"ready\n? not ASCII\n")
        client.expect_eof()


def test_a_line_may_come_in_pieces(raw_client, server_address):
    with raw_client(server_address) as client:
        client.expect(b"ready\n")
        client.send(b"hel")
        client.send(b"lo\nbye\n")
        assert client.recv_line() == b"HELLO\n"
        assert client.recv_line() == b"BYE\n"


def test_half_a_line_is_answered_at_the_end(raw_client, server_address):
    with raw_client(server_address) as client:
        client.send(b"hello")
        client.send_eof()
        assert client.recv_to_eof() == b"ready\nHELLO"


def test_one_client_does_not_wait_for_another(raw_client, server_address):
    with raw_client(server_address) as slow, raw_client(server_address) as quick:
        slow.send(b"half a li")
        quick.send(b"hello\n")
        quick.expect(b"ready\nHELLO\n")
