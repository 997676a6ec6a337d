"""Real asyncio servers on our listener, unchanged, with the clients that they are written for."""

from __future__ import annotations

import asyncio
import http.client
import json
import smtplib
import socket
from typing import Any

import pytest

from programs import LIMIT, program, run
from pytest_sockets import Sockets, StreamServer

pytestmark = pytest.mark.sockets(timeout=LIMIT)


# -- aiohttp.web


def web_server() -> Any:
    """Make the protocol of one connection."""
    from aiohttp import web

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/stream":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(100):
                await response.write(body)
            await response.write_eof()
            return response
        return web.json_response({"path": request.path, "size": len(body)})

    return web.Server(answer)()


def test_aiohttp_answers_requests_on_one_connection(sockets: Sockets) -> None:
    server = sockets.serve_protocol(web_server)
    client = http.client.HTTPConnection(server.host, server.port, timeout=LIMIT)
    for path in ("/first", "/second"):
        client.request("POST", path, body=b"x" * 100_000)
        assert json.load(client.getresponse()) == {"path": path, "size": 100_000}
    server.assert_connections(1)
    conn = server.accept()
    assert conn.received.count(b"POST /") == 2
    conn.assert_sent(contains=b'{"path": "/second", "size": 100000}')
    client.close()


def test_aiohttp_streams_a_large_answer(sockets: Sockets) -> None:
    server = sockets.serve_protocol(web_server)
    client = http.client.HTTPConnection(server.host, server.port, timeout=LIMIT)
    client.request("POST", "/stream", body=b"y" * 100_000)
    assert client.getresponse().read() == b"y" * 10_000_000
    client.close()


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_aiohttp_answers_curl(sockets: Sockets, family: str) -> None:
    server = sockets.serve_protocol(web_server, family=family)
    unix = ["--unix-socket", server.path] if family == "unix" else []
    url = "http://localhost/curl" if family == "unix" else server.url("http") + "/curl"
    answer = run(program("curl"), "--silent", "--show-error", *unix, "--data", "z" * 5000, url)
    assert json.loads(answer) == {"path": "/curl", "size": 5000}


def test_junk_on_aiohttp_is_answered_and_no_problem(sockets: Sockets) -> None:
    server = sockets.serve_protocol(web_server)
    for junk in (b"\0\xff\xfe\r\n\r\n", b"GET / HT", b""):
        with socket.create_connection(server.address, timeout=LIMIT) as client:
            client.sendall(junk)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    server.check()


# -- aiosmtpd


class Inbox:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 kept"


def test_aiosmtpd_takes_mail_from_smtplib(sockets: Sockets) -> None:
    from aiosmtpd.smtp import SMTP

    inbox = Inbox()
    server = sockets.serve_protocol(lambda: SMTP(inbox, hostname="mx.example", ident="test"))
    with smtplib.SMTP(server.host, server.port, timeout=LIMIT) as client:
        for number in range(2):
            client.sendmail("a@example.org", ["b@example.org"], f"Subject: {number}\n\n.\nBody\n")
    assert [content for _, _, content in inbox.mails] == [
        b"Subject: 0\r\n\r\n.\r\nBody\r\n",
        b"Subject: 1\r\n\r\n.\r\nBody\r\n",
    ]
    conn = server.accept()
    conn.wait_closed()
    assert conn.sent.startswith(b"220 mx.example test\r\n")
    assert conn.sent.endswith(b"221 Bye\r\n")
    assert conn.received.count(b"\r\n..\r\nBody\r\n.\r\n") == 2


# -- websockets


class WebSocketEcho(asyncio.Protocol):
    """websockets' sans-I/O server protocol, that answers each message in capitals."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        from websockets.server import ServerProtocol

        self.sans_io = ServerProtocol()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        from websockets.frames import Frame, Opcode
        from websockets.http11 import Request

        self.sans_io.receive_data(data)
        for event in self.sans_io.events_received():
            if isinstance(event, Request):
                self.sans_io.send_response(self.sans_io.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.sans_io.send_text(bytes(event.data).upper())
        self.flush()

    def eof_received(self) -> None:
        self.sans_io.receive_eof()
        self.flush()

    def flush(self) -> None:
        for data in self.sans_io.data_to_send():
            if data:
                self.transport.write(data)
            else:  # its word for EOF
                self.transport.close()


def test_websockets_talks_to_its_own_client(sockets: Sockets) -> None:
    from websockets.sync.client import connect

    server = sockets.serve_protocol(WebSocketEcho)
    with connect(server.url("ws"), open_timeout=LIMIT, proxy=None) as client:
        for text in ("hello", "x" * 200_000):
            client.send(text)
            assert client.recv(LIMIT) == text.upper()
    server.wait_closed(1)
    server.assert_sent(contains=b"101 Switching Protocols")
    server.assert_received(contains=b"Upgrade: websocket")


# -- all of them


@pytest.mark.parametrize("factory", [web_server, WebSocketEcho])
def test_closing_in_the_middle_leaves_nothing_behind(
    sockets: Sockets, factory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server: StreamServer = sockets.serve_protocol(factory)
    with socket.create_connection(server.address, timeout=LIMIT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        server.assert_received(contains=b"half")
        server.close()
        assert asyncio.all_tasks(server._engine.loop) == set()
    assert caplog.messages == []
    server.check()
