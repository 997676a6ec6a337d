"""docker-py's test of a stream that is complete before its request is."""

from __future__ import annotations

import re
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


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty build context, and no configuration of the machine's own docker."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    (tmp_path / "context").mkdir()
    return str(tmp_path / "context")


@mutations(
    ("expect(BUILD", "expect(re.compile(b'GET .*', re.S)", r"expected  a full match of b'GET .*"),
    ("int(head[1])", "int(head[1]) + 1", r"handler early"),
    ("send(REPLY)", "send(b'')", "Read timed out"),
    ("send(REPLY)", "send(REPLY[:-2])", "timed out|InvalidChunk|Incomplete"),
    ("send(REPLY)", "send(REPLY.replace(b'49', b'94'))", "AssertionError"),
    ("send(REPLY)", "send(REPLY[9:])", "BadStatusLine"),
    ("LINES", "LINES[:-1]", "AssertionError"),
)
def test_early_stream_response(unix_server: UnixServer, context: str) -> None:
    @unix_server.serve
    def early(conn: Connection) -> None:
        conn.send(REPLY)
        head = conn.expect(BUILD, until=b"\r\n\r\n")
        conn.recv_exactly(int(head[1]))

    url = f"http+unix://{unix_server.path}"
    with APIClient(base_url=url, version=DEFAULT_DOCKER_API_VERSION, timeout=3) as client:
        assert list(client.build(path=context)) == LINES
