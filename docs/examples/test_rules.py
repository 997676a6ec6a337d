"""Servers that answer by rules."""

import re
import socket

import pytest


class Redis:
    """A small client."""

    def __init__(self, address):
        self.sock = socket.create_connection(address)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.file.close()
        self.sock.close()

    def ask(self, *words):
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        self.sock.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return self.file.readline()


# start: lines
@pytest.fixture
def pop3(sockets):
    server = sockets.tcp_server(framing=b"\r\n")
    server.on(b"STAT\r\n", b"+OK 2 320\r\n")
    server.on(re.compile(rb"DELE (\d+)\r\n"), lambda match: b"+OK %s deleted\r\n" % match[1])
    return server


# end: lines


def test_pop3(pop3):
    with socket.create_connection(pop3.address) as sock, sock.makefile("rb") as file:
        sock.sendall(b"STAT\r\nDELE 2\r\n")
        assert file.readline() == b"+OK 2 320\r\n"
        assert file.readline() == b"+OK 2 deleted\r\n"


def test_first_busy_then_ready(tcp_server):
    tcp_server.on(b"JOB?", b"busy", times=2)
    tcp_server.on(b"JOB?", b"done")
    answers = []
    with socket.create_connection(tcp_server.address) as sock:
        for _ in range(3):
            sock.sendall(b"JOB?")
            answers.append(sock.recv(4, socket.MSG_WAITALL))
    assert answers == [b"busy", b"busy", b"done"]


# start: resp
def resp(buffer):
    """Return the length of the first whole command: an array of bulk strings."""
    found = re.match(rb"\*(\d+)\r\n", buffer)
    if not found:
        return None
    end = found.end()
    for _ in range(int(found[1])):
        found = re.compile(rb"\$(\d+)\r\n").match(buffer, end)
        if not found:
            return None
        end = found.end() + int(found[1]) + 2
    return end if len(buffer) >= end else None


# end: resp


def test_redis(sockets):
    server = sockets.tcp_server(framing=resp)
    server.on(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
    server.on(re.compile(rb"(?s).+GET.+"), b"$-1\r\n")
    with Redis(server.address) as redis:
        assert redis.ask("PING") == b"+PONG\r\n"
        assert redis.ask("GET", "key") == b"$-1\r\n"


def test_name_lookup(udp_peer):
    udp_peer.on(re.compile(rb"name=(?s:.+)"), lambda datagram: datagram.data + b" is 192.0.2.7")
    udp_peer.on(b"lost", None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"lost", udp_peer.address)
        sock.sendto(b"name=a", udp_peer.address)
        assert sock.recv(100) == b"name=a is 192.0.2.7"
