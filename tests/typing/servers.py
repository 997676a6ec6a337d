# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import re
import socket
from typing import Any, assert_type

from pytest_sockets import (
    Address,
    ChargenServer,
    Connection,
    DiscardServer,
    EchoServer,
    Endpoint,
    Event,
    Settings,
    SilentServer,
    StreamServer,
    TCPServer,
    UnixServer,
)


def where_a_tcp_server_is(tcp_server: TCPServer) -> None:
    host, port = tcp_server.address
    assert_type(host, str)
    assert_type(port, int)
    assert_type(tcp_server.host, str)
    assert_type(tcp_server.port, int)
    assert_type(tcp_server.addresses, tuple[Address, ...])
    assert_type(tcp_server.family, str)
    assert_type(tcp_server.url("redis"), str)
    socket.create_connection(tcp_server.address).close()


def where_other_servers_are(unix_server: UnixServer, echo_server: EchoServer) -> None:
    assert_type(unix_server.address, str)
    assert_type(unix_server.path, str)
    # Of any family, as its arguments say: two parts for most, one string for AF_UNIX.
    assert_type(echo_server.address, Any)
    socket.create_connection(echo_server.address).close()


def an_outage(tcp_server: TCPServer, echo_server: EchoServer) -> None:
    tcp_server.down(reset=True)
    assert_type(tcp_server.is_down, bool)
    tcp_server.up()
    echo_server.down()


def what_came(tcp_server: TCPServer) -> None:
    assert_type(tcp_server.accept(), Connection)
    assert_type(tcp_server.accept(timeout=0), Connection)
    assert_type(tcp_server.connections, tuple[Connection, ...])
    assert_type(tcp_server.received, bytes)
    assert_type(tcp_server.sent, bytes)
    assert_type(tcp_server.transcript, tuple[Event, ...])
    assert_type(tcp_server.problems, tuple[BaseException, ...])
    assert_type(tcp_server.is_closed, bool)
    assert_type(tcp_server.name, str)
    assert_type(tcp_server.settings, Settings)


def what_is_required(tcp_server: TCPServer, anything: object) -> None:
    tcp_server.wait_connections(1)
    tcp_server.wait_closed(1, timeout=2.5)
    tcp_server.assert_connections(0, timeout=1)
    tcp_server.assert_received(b"all of it")
    tcp_server.assert_received(re.compile(rb"some of it"), timeout=1)
    tcp_server.assert_received(anything)
    tcp_server.assert_received(contains=b"some of it")
    tcp_server.assert_sent(b"all of it", timeout=1)
    tcp_server.assert_nothing_received()
    tcp_server.check()
    tcp_server.close()


def rules(tcp_server: TCPServer, unix_server: UnixServer) -> None:
    tcp_server.on(b"PING\r\n", b"+PONG\r\n")
    tcp_server.on(b"PING\r\n", None, times=2)
    tcp_server.on(b"PING\r\n", [b"one", b"two"])
    tcp_server.on(b"PING\r\n", lambda frame: frame.upper())
    tcp_server.on(re.compile(rb"GET (\w+)\r\n"), lambda match: [match[1], b"\r\n"])
    unix_server.on(re.compile(rb"GET (\w+)\r\n"), lambda match: None)


def framed() -> None:
    with (
        TCPServer(framing=b"\r\n") as tcp,
        UnixServer(framing=">H") as unix,
        StreamServer(framing=lambda buffer: len(buffer) or None) as stream,
    ):
        assert_type(tcp, TCPServer)
        assert_type(unix, UnixServer)
        assert_type(stream, StreamServer)


def without_fixtures() -> None:
    with EchoServer(name="echo", settings=Settings(timeout=1)) as server:
        assert_type(server, EchoServer)
    with TCPServer(family="dual") as tcp, UnixServer(abstract=True) as unix:
        assert_type(tcp, TCPServer)
        assert_type(unix, UnixServer)
    with StreamServer(family="unix", type=socket.SOCK_SEQPACKET) as stream:
        assert_type(stream, StreamServer)


def each_is_a_stream_server_and_an_endpoint() -> None:
    classes: list[type[StreamServer]] = [
        ChargenServer,
        DiscardServer,
        EchoServer,
        SilentServer,
        TCPServer,
        UnixServer,
    ]
    endpoints: list[type[Endpoint]] = [*classes]
    assert endpoints


def wrong(tcp_server: TCPServer, unix_server: UnixServer) -> None:
    tcp_server.accept(1)  # type: ignore[call-arg]  # wrong on purpose
    tcp_server.accept(timeout="1")  # type: ignore[arg-type]  # wrong on purpose
    tcp_server.wait_connections()  # type: ignore[call-arg]  # wrong on purpose
    tcp_server.address = ("127.0.0.1", 80)  # type: ignore[misc]  # wrong on purpose
    port: str = tcp_server.port  # type: ignore[assignment]  # wrong on purpose
    TCPServer("127.0.0.1")  # type: ignore[call-arg]  # wrong on purpose
    TCPServer(path="/run/it")  # type: ignore[call-arg]  # wrong on purpose
    tcp_server.on("PING", b"+PONG")  # type: ignore[call-overload]  # wrong on purpose
    tcp_server.on(b"PING", "+PONG")  # type: ignore[call-overload]  # wrong on purpose
    tcp_server.on(b"PING", b"+PONG", 2)  # type: ignore[call-overload]  # wrong on purpose
    TCPServer(framing=4)  # type: ignore[arg-type]  # wrong on purpose
    pair: tuple[str, int] = unix_server.address  # type: ignore[assignment]  # wrong on purpose
    assert port or pair
