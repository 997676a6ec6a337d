"""CPython's test that a response's file descriptor is usable, in a tunnel."""

from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPConnection

from mutants import mutations
from pytest_sockets import TCPServer

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@mutations(
    (
        'recv_until(b"\\r\\n\\r\\n")',
        "expect(b'GET ')",
        r"step 1 of 4: expected b'GET ', got b'CONN",
    ),
    ("send(ESTABLISHED)", "send(b'SSH-2.0\\r\\n')", "BadStatusLine"),
    ("send(ESTABLISHED)", "send(ESTABLISHED.replace(b'200', b'407'))", "AssertionError"),
    (".send(ESTABLISHED)", "", r"step 2 of 3: expected b'proxied data\\n', got nothing\n  waited"),
    ('.expect(b"proxied', '.expect(b"direct', r"step 3 of 4: expected b'direct.*, got b'proxied"),
    ('data\\n").expect_eof', 'data").expect_eof', r"step 4 of 4: expected EOF, got b'\\n'"),
    ('data\\n").expect_eof', 'data\\n\\n").expect_eof', r"step 3 of 4: .*, got b'proxied data\\n'"),
    ('data\\n").expect_eof()', 'data")', r"after the last of 3 steps: .* more, got b'\\n'"),
    ("sock.sendall(", "sock.sendall(b'more' + ", r"first difference at byte 0"),
    ("sock.sendall(b", "str(b", r"step 3 of 4: expected b'proxied data\\n', got nothing: the peer"),
)
def test_response_fileno(tcp_server: TCPServer) -> None:
    script = tcp_server.script().recv_until(b"\r\n\r\n").send(ESTABLISHED)
    script.expect(b"proxied data\n").expect_eof()
    with closing(HTTPConnection(*tcp_server.address, timeout=10)) as conn:
        conn.request("CONNECT", "dummy:1234")
        with conn.getresponse() as response:
            assert response.status == 200
            with socket.socket(fileno=response.fileno()) as sock:
                sock.sendall(b"proxied data\n")
                sock.detach()
