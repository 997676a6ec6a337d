"""redis-py's tests of connecting, over TCP and over a unix socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
import redis
import redis.asyncio

from mutants import mutations
from pytest_sockets import Connection, Sockets, StreamServer, TCPProxy
from pytest_sockets.faults import Delay
from resp import resp

NAME = "test-suite-client"
SETNAME = [b"CLIENT", b"SETNAME", NAME.encode()]


def command(conn: Connection) -> list[bytes]:
    """Read a command, an array of bulk strings, however the stream was cut."""
    words = int(conn.recv_line().removeprefix(b"*"))
    lengths = (int(conn.recv_line().removeprefix(b"$")) for _ in range(words))
    return [conn.recv_exactly(length + 2).removesuffix(b"\r\n") for length in lengths]


def connection(server: StreamServer) -> redis.Connection:
    if server.family == "unix":
        return redis.UnixDomainSocketConnection(server.path, client_name=NAME, protocol=2)
    return redis.Connection(server.host, server.port, client_name=NAME, protocol=2)


@pytest.mark.parametrize("family", ["ipv4", "unix"])
@mutations(
    ("== SETNAME", "== [b'CLIENT', b'GETNAME']", "ResponseError"),
    ("+OK", "+NO", "ConnectionError: Error setting client name"),
    ("-ERR", "?ERR", "InvalidResponse"),
    ("while True:", "if True:", "Connection closed by server"),
    ("conn.send(", r"conn.send(b'-ERR\r\n'); conn.send(", "ResponseError"),
    ("client.connect()", "pass", r"waited [\d.]+ s for b'\$7\\r\\nSETNAME"),
    (
        "connect()",
        "connect(); client.send_command('PING'); client.read_response()",
        "ResponseError",
    ),
    ("SETNAME\\r", "GETNAME\\r", r"expected  b'\$7\\r\\nGETNAME\\r\\n\$17"),
)
def test_connect(sockets: Sockets, family: str) -> None:
    server = sockets.stream_server(family=family)

    @server.serve
    def answer(conn: Connection) -> None:
        while True:
            conn.send(b"+OK\r\n" if command(conn) == SETNAME else b"-ERR\r\n")

    client = connection(server)
    client.connect()
    client.disconnect()
    server.assert_received(contains=b"$7\r\nSETNAME\r\n$17\r\ntest-suite-client\r\n")


@pytest.mark.parametrize("family", ["ipv4", "unix"])
def test_commands_may_be_split_or_pipelined(sockets: Sockets, family: str) -> None:
    server = sockets.stream_server(family=family)
    server.serve(lambda conn: [conn.send(b":%d\r\n" % len(command(conn))) for _ in range(3)])
    packer = connection(server)
    commands = [["GET", "a\r\n"], ["CLIENT", "SETNAME", NAME], ["SET", "b", ""]]
    packed = b"".join(packer.pack_commands(commands))
    client = sockets.connect(server.address)
    client.send(packed[:-1])
    client.expect(b":2\r\n:3\r\n")
    client.send(packed[-1:])
    client.expect(b":3\r\n")
    client.expect_eof()


ANY = re.compile(rb".+", re.DOTALL)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("single", [True, False])
@mutations(
    ("task.cancel()", "fault.lift()", "DID NOT RAISE"),
    ('== b"bar"', '== b"foo"', "AssertionError"),
    ("Delay(60)", "Delay(60), connection=7", "AssertionError"),
    ('get("foo")', 'get("baz")', r"waited [\d.]+ s for the request b'foo'"),
    ("tcp_proxy(server)", "server", "has no attribute"),
    ("match[1])", 'b"foo")', "AssertionError"),
)
async def test_cwe_404_standalone(
    sockets: Sockets, tcp_proxy: Callable[..., TCPProxy], single: bool
) -> None:
    server = sockets.tcp_server(framing=resp)
    get = re.compile(rb".*GET\r\n\$3\r\n(...)\r\n", re.DOTALL)
    server.on(get, lambda match: b"$3\r\n%s\r\n" % match[1])
    server.on(ANY, b"+OK\r\n")
    proxy = tcp_proxy(server)
    # With a timeout redis-py sends in asyncio.wait_for, which on Python 3.11 swallows the cancel.
    options = {"single_connection_client": single, "protocol": 2, "socket_timeout": None}
    async with redis.asyncio.Redis(host=proxy.host, port=proxy.port, **options) as client:
        await client.set("any", "value")
        with proxy.fault(Delay(60)) as fault:
            task = asyncio.create_task(client.get("foo"))
            await proxy.aio.wait_forwarded(b"foo")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert fault.hits
        assert await client.get("bar") == b"bar"
