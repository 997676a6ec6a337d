"""docker-py's test of a stream that is complete before its request is."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION

from mutants import mutations
from pytest_sockets import Connection, UnixServer

LINES = [str(number).encode() for number in range(50)]
BUILD = re.compile(rb"POST /v[\d.]+/build\?.*\r\nContent-Length: (\d+)\r\n.*", re.DOTALL)
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in [*LINES, b""])
REPLY = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS


CONTEXT = bytes(10240)  # an archive of nothing, as tar(5) pads it


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the configuration of the machine's own docker out."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@mutations(
    ("expect(BUILD", "expect(re.compile(b'GET .*', re.S)", r"expected  a full match of b'GET .*"),
    ("int(head[1])", "int(head[1]) - 1", r"expected EOF, but 1 byte came: b'\\x00'"),
    ("conn.recv_exactly(int(head[1]))", "pass", r"expected EOF, but 10,240 bytes came: b'\\x00"),
    ("send(REPLY)", "send(b'')", r"waited [\d.]+ s for EOF; the peer has not closed its side"),
    ("send(REPLY)", "send(REPLY[:-2])", r"waited [\d.]+ s for EOF; the peer has not closed its"),
    ("send(REPLY)", r"send(REPLY[:-5] + b'1\r\n!\r\n0\r\n\r\n')", "AssertionError"),
    (
        "expect_eof()",
        "expect(b'more')",
        r"received less(.*\n)+.*no more can come: the peer sent EOF",
    ),
    ("send(REPLY)", "send(REPLY.replace(b'49', b'94'))", "AssertionError"),
    ("send(REPLY)", "send(REPLY[9:])", "BadStatusLine"),
    ("LINES", "LINES[:-1]", "AssertionError"),
)
def test_early_stream_response(unix_server: UnixServer) -> None:
    @unix_server.serve
    def early(conn: Connection) -> None:
        conn.send(REPLY)
        head = conn.expect(BUILD, until=b"\r\n\r\n")
        conn.recv_exactly(int(head[1]))
        conn.expect_eof()

    url = f"http+unix://{unix_server.path}"
    with APIClient(base_url=url, version=DEFAULT_DOCKER_API_VERSION) as client:
        answer = client.build(fileobj=BytesIO(CONTEXT), custom_context=True)
        assert list(answer) == LINES
