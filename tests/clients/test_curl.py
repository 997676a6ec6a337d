"""curl, over TELNET and HTTP."""

from __future__ import annotations

import re

import pytest

from programs import LIMIT, heard, hush, program, running, tell
from pytest_sockets import EchoServer, Sockets, StreamServer, UnsupportedError

# Programs start in their own time.
pytestmark = pytest.mark.sockets(timeout=LIMIT)

TEXT = b"telnet escapes 0xff and drops the NUL after CR, so this is text\n" * 20


def curl(server: StreamServer, url: str, *options: str) -> list[str]:
    unix = ["--unix-socket", server.path] if server.family == "unix" else []
    return [program("curl"), "--silent", "--show-error", "--no-buffer", *unix, *options, url]


def url(server: StreamServer, scheme: str) -> str:
    return f"{scheme}://localhost" if server.family == "unix" else server.url(scheme)


def test_telnet_gets_its_bytes_back(any_echo_server: EchoServer) -> None:
    with running(*curl(any_echo_server, url(any_echo_server, "telnet"))) as process:
        tell(process, TEXT)
        # Most versions stay at the end of their input, and look for EOF only after it. With an open
        # input some go to read from it at times although there is nothing, and hang there: 2 of
        # 2,500 runs of curl 7.88 on a busy machine.
        hush(process)
        assert heard(process, len(TEXT)) == TEXT
        any_echo_server.close()
        assert heard(process) == b""

    any_echo_server.assert_received(TEXT)
    any_echo_server.assert_sent(TEXT)


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "unix"])
def test_http_takes_an_answer_written_by_hand(sockets: Sockets, family: str) -> None:
    try:
        server = sockets.stream_server(family=family)
    except UnsupportedError as error:
        pytest.skip(str(error))
    with running(*curl(server, url(server, "http"), "--include")) as process:
        conn = server.accept()
        conn.expect(re.compile(rb"GET / HTTP/1\.1\r\n.*", re.DOTALL), until=b"\r\n\r\n")
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        conn.send(answer)
        assert heard(process) == answer
    conn.expect_eof()
