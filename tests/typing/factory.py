# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import assert_type

from pytest_sockets import (
    BlackholeAddress,
    ChargenServer,
    Connection,
    DatagramPair,
    DatagramPeer,
    DiscardServer,
    EchoServer,
    Endpoint,
    Event,
    ProtocolServer,
    RefusedAddress,
    ReservedPort,
    Settings,
    SilentServer,
    SocketPair,
    Sockets,
    StreamServer,
    TCPServer,
    UDPEchoServer,
    UDPPeer,
    UnixDatagramPeer,
    UnixServer,
)


async def callback(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""


def endpoints(sockets: Sockets) -> None:
    assert_type(sockets.tcp_server(family="dual", name="primary"), TCPServer)
    assert_type(sockets.tcp_server(host="localhost", port="http"), TCPServer)
    assert_type(sockets.unix_server("here.sock"), UnixServer)
    assert_type(sockets.echo_server(path="here.sock"), EchoServer)
    assert_type(sockets.silent_server(port=8080), SilentServer)
    assert_type(sockets.discard_server(), DiscardServer)
    assert_type(sockets.chargen_server(), ChargenServer)
    assert_type(sockets.stream_server(family="ipv6"), StreamServer)
    assert_type(sockets.tcp_server(framing=b"\n"), TCPServer)
    assert_type(sockets.unix_server(framing=">H"), UnixServer)
    assert_type(sockets.stream_server(framing=len), StreamServer)
    assert_type(sockets.serve_protocol(asyncio.Protocol, family="unix"), ProtocolServer)
    assert_type(sockets.serve_protocol(lambda: asyncio.Protocol(), port=80), ProtocolServer)
    assert_type(sockets.serve_protocol(callback, path="here.sock"), ProtocolServer)
    assert_type(sockets.udp_peer(), UDPPeer)
    assert_type(sockets.udp_echo_server(), UDPEchoServer)
    assert_type(sockets.unix_datagram_peer(abstract=True), UnixDatagramPeer)


def endpoints_of_any_family(sockets: Sockets, kind: int) -> None:
    assert_type(sockets.server(family=socket.AF_VSOCK, address=(1, 2)), StreamServer)
    assert_type(sockets.server(family="unix", type=socket.SOCK_SEQPACKET), StreamServer)
    assert_type(sockets.server(family="ipv4", type=kind), StreamServer | DatagramPeer)


def held_addresses(sockets: Sockets, refused_address: RefusedAddress) -> None:
    assert_type(sockets.refused_address(family="unix", name="nobody"), RefusedAddress)
    assert_type(sockets.blackhole_address(family="ipv6", host="::1"), BlackholeAddress)
    port = sockets.reserved_port(family="dual", type=socket.SOCK_DGRAM)
    assert_type(port, ReservedPort)
    assert_type(port.address, tuple[str, int])
    assert_type(sockets.blackhole_address().address, tuple[str, int])
    assert_type(port.socket, socket.socket)
    assert_type(port.fileno(), int)
    assert_type(port.url("http"), str)
    assert_type(refused_address.host, str)
    assert_type(refused_address.port, int)
    assert_type(refused_address.is_closed, bool)
    port.release()
    with ReservedPort(host="localhost") as own:
        assert_type(own, ReservedPort)
    sockets.require("ipv6", "down")


def pairs(sockets: Sockets, unix_socket_pair: SocketPair) -> None:
    assert_type(unix_socket_pair.socket, socket.socket)
    assert_type(unix_socket_pair.peer, Connection)
    assert_type(sockets.unix_socket_pair(), SocketPair)
    assert_type(sockets.tcp_socket_pair(name="pair"), SocketPair)
    assert_type(sockets.socket_pair(), SocketPair)
    assert_type(sockets.socket_pair("seqpacket"), SocketPair)
    datagrams = sockets.socket_pair("datagram")
    assert_type(datagrams, DatagramPair)
    datagrams.peer.send(b"hello")
    with SocketPair("tcp") as pair:
        sock, peer = pair
        sock.sendall(b"hello")
        peer.expect(b"hello")


def clients(sockets: Sockets, raw_client: Callable[..., Connection]) -> None:
    assert_type(sockets.connect(("127.0.0.1", 80)), Connection)
    assert_type(sockets.connect("here.sock", timeout=1, name="client"), Connection)
    assert_type(raw_client(("127.0.0.1", 80)), Connection)


def all_together(sockets: Sockets) -> None:
    assert_type(sockets.endpoints, tuple[Endpoint, ...])
    assert_type(sockets.transcript, tuple[Event, ...])
    assert_type(sockets.seed, int)
    sockets.assert_order(b"first", sockets.transcript[0], b"last")
    sockets.check()
    sockets.close()
    with Sockets(Settings(timeout=1), family="ipv6") as own:
        assert_type(own, Sockets)


def wrong(sockets: Sockets) -> None:
    sockets.tcp_server("127.0.0.1")  # type: ignore[call-arg]  # wrong on purpose
    sockets.tcp_server(path="here.sock")  # type: ignore[call-arg]  # wrong on purpose
    sockets.socket_pair("packet")  # type: ignore[call-overload]  # wrong on purpose
    sockets.serve_protocol(5)  # type: ignore[arg-type]  # wrong on purpose
    sockets.server()  # type: ignore[call-overload]  # wrong on purpose
    sockets.assert_order("first", "last")  # type: ignore[arg-type]  # wrong on purpose
    SocketPair("udp")  # type: ignore[arg-type]  # wrong on purpose
    Settings(timeout="1")  # type: ignore[arg-type]  # wrong on purpose
    Settings().timeout = 1  # type: ignore[misc]  # wrong on purpose
