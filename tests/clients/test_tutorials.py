"""The client that every tutorial on sockets begins with."""

from __future__ import annotations

import socket

from programs import LIMIT
from pytest_sockets import EchoServer, UDPEchoServer, UnixDatagramPeer

FAMILIES = {"ipv6": socket.AF_INET6, "unix": socket.AF_UNIX}


def new_socket(family: str, kind: int) -> socket.socket:
    client = socket.socket(FAMILIES.get(family, socket.AF_INET), kind)
    client.settimeout(LIMIT)
    return client


def test_the_stream_client_is_welcomed(any_echo_server: EchoServer) -> None:
    with new_socket(any_echo_server.family, socket.SOCK_STREAM) as client:
        client.connect(any_echo_server.address)
        client.sendall(b"Welcome User!")
        assert client.recv(1024) == b"Welcome User!"

    any_echo_server.assert_received(b"Welcome User!")
    any_echo_server.assert_sent(b"Welcome User!")
    any_echo_server.assert_connections(1)
    any_echo_server.wait_closed(1)


def test_the_datagram_client_is_welcomed(any_udp_echo_server: UDPEchoServer) -> None:
    host, port = any_udp_echo_server.host, any_udp_echo_server.port
    with new_socket(any_udp_echo_server.family, socket.SOCK_DGRAM) as client:
        client.sendto(b"Welcome User!", (host, port))
        message, source = client.recvfrom(1024)
        own = client.getsockname()[1]
    assert message == b"Welcome User!"
    assert source[1] == port

    any_udp_echo_server.assert_received(b"Welcome User!")
    assert any_udp_echo_server.sent == [b"Welcome User!"]
    assert any_udp_echo_server.datagrams[0].source[1] == own


def test_the_unix_datagram_client_is_heard(unix_datagram_peer: UnixDatagramPeer) -> None:
    with new_socket("unix", socket.SOCK_DGRAM) as client:
        client.sendto(b"Welcome User!", unix_datagram_peer.address)
    unix_datagram_peer.assert_received(b"Welcome User!")
    assert unix_datagram_peer.datagrams[0].source is None
