"""The test plays the server, line by line, while the client runs beside it."""

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest


def login(address, user, password):
    """Log in at a server that speaks first, and return its last answer."""
    with socket.create_connection(address) as sock, sock.makefile("rwb") as stream:

        def command(line):
            stream.write(line.encode() + b"\r\n")
            stream.flush()
            return stream.readline().decode().strip()

        if not stream.readline().startswith(b"220"):
            raise ConnectionError("the server is not ready")
        command(f"USER {user}")
        return command(f"PASS {password}")


@pytest.fixture
def beside():
    """Run functions in threads, beside the test."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_login(tcp_server, beside):
    answer = beside(login, tcp_server.address, "ann", "secret")

    with tcp_server.accept() as conn:
        conn.send(b"220 ready\r\n")
        conn.expect(b"USER ann\r\n")
        conn.send(b"331 password, please\r\n")
        given = conn.expect(re.compile(rb"PASS (\w+)\r\n"), until=b"\r\n")
        conn.send(b"230 welcome\r\n")
        conn.expect_eof()

    assert given[1] == b"secret"
    assert answer.result() == "230 welcome"


def test_a_server_that_goes_away_is_an_error(tcp_server, beside):
    answer = beside(login, tcp_server.address, "ann", "secret")

    with tcp_server.accept() as conn:
        conn.reset()

    with pytest.raises(ConnectionResetError):
        answer.result()


# start: program
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(b"hello\\n")
    print(sock.makefile().readline().strip())
"""


def test_a_program(tcp_server):
    command = [sys.executable, "-c", CLIENT, tcp_server.host, str(tcp_server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        with tcp_server.accept(timeout=30) as conn:
            assert conn.recv_line(timeout=30) == b"hello\n"
            conn.send(b"goodbye\n")
            conn.expect_eof(timeout=30)
        assert client.stdout.read() == b"goodbye\n"


# end: program


def upload(address, content):
    """Send all of it, say that this was all, and return what the server makes of it."""
    with socket.create_connection(address) as sock:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)
        return sock.makefile("rb").read()


def test_upload(tcp_server, beside):
    answer = beside(upload, tcp_server.address, b"hello")

    with tcp_server.accept() as conn:
        content = conn.recv_to_eof()
        conn.send(content[::-1])
        conn.close()

    assert answer.result() == b"olleh"
