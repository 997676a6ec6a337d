"""urllib3's tests of a server that closes between two requests, and of a SOCKS5 proxy."""

from __future__ import annotations

import re
import socket
import struct

import urllib3
from urllib3.contrib.socks import SOCKSProxyManager

from mutants import mutations
from pytest_sockets import TCPServer

GET = re.compile(rb"GET / HTTP/1\.1\r\n.*", re.DOTALL)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nResponse %d"


@mutations(
    ("GET, until", "re.compile(b'PUT .*'), until", r"step 1 of 3: expected .*PUT.*got b'GET"),
    ("REPLY % i", "REPLY % 0", "AssertionError"),
    ("close()", "expect_eof()", r"waited [\d.]+ s for 1 closed connection, 0 so far"),
    (".close()", "", r"waited [\d.]+ s for 1 closed connection, 0 so far"),
    ("range(2)", "range(3)", r"script 3, 3 steps: never played, as nobody connected for it"),
    ("Response 1", "Response 2", "AssertionError"),
)
def test_recovery_when_server_closes_connection(tcp_server: TCPServer) -> None:
    for i in range(2):
        tcp_server.script().expect(GET, until=b"\r\n\r\n").send(REPLY % i).close()
    with urllib3.HTTPConnectionPool(tcp_server.host, tcp_server.port, retries=False) as pool:
        assert pool.request("GET", "/").data == b"Response 0"
        tcp_server.wait_closed(1)
        assert pool.request("GET", "/").data == b"Response 1"


HTTP = b"HTTP/1.1 200 OK\r\nServer: SocksTestServer\r\nContent-Length: 0\r\n\r\n"
TARGET = socket.inet_aton("16.17.18.19") + struct.pack(">H", 80)


@mutations(
    (r"\x05\x02\x00\x02", r"\x05\x01\x02", r"step 1 of 9: expected b'\\x05\\x01\\x02', got "),
    ('x05\\x02")', 'x05\\x00")', r"step 3 of 9: expected b'\\x01\\x04user.*, got b'\\x05\\x01"),
    (r"04pass", r"04past", r"first difference at byte 10: expected 0x74 't', received 0x73 's'"),
    (
        r'.send(b"\x01\x00")',
        "",
        r"step 4 of 8: expected b'\\x05\\x01\\x00\\x01.*\n  waited [\d.]+ s for it",
    ),
    (r"x01\x00", r"x01\x01", r"SOCKS5 authentication failed"),
    (
        'x01" + TARGET).send',
        'x03" + TARGET).send',
        r"step 5 of 9: (.*\n)+.* at byte 3: expected 0x03",
    ),
    (r'send(b"\x05\x00', r'send(b"\x05\x05', "Connection refused"),
    ('"GET"', '"HEAD"', r"step 7 of 9: expected .*, got b'HEAD"),
    ("send(HTTP)", "send(HTTP[9:])", "BadStatusLine"),
    ("close()", "recv_exactly(1)", r"step 9 of 9: expected 1 byte, got nothing: the peer sent EOF"),
    ("(200, b", "(201, b", "AssertionError"),
    ('"SocksTestServer"', '"AnotherServer"', "AssertionError"),
)
def test_socks_with_password(tcp_server: TCPServer) -> None:
    script = tcp_server.script().expect(b"\x05\x02\x00\x02").send(b"\x05\x02")
    script.expect(b"\x01\x04user\x04pass").send(b"\x01\x00")
    script.expect(b"\x05\x01\x00\x01" + TARGET).send(b"\x05\x00\x00\x01" + TARGET)
    script.expect(GET, until=b"\r\n\r\n").send(HTTP).close()
    url = tcp_server.url("socks5")
    with SOCKSProxyManager(url, username="user", password="pass", retries=False) as proxy:
        response = proxy.request("GET", "http://16.17.18.19")
    assert (response.status, response.data) == (200, b"")
    assert response.headers["Server"] == "SocksTestServer"
