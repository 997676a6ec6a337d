"""One short test for each fixture."""

import socket

import pytest

from pytest_sockets.faults import Close, Reset


def test_tcp_server(tcp_server):
    with socket.create_connection(tcp_server.address) as sock:
        sock.sendall(b"hello\n")

        conn = tcp_server.accept()
        conn.expect(b"hello\n")
        conn.send(b"goodbye\n")

        assert sock.recv(100) == b"goodbye\n"


def test_echo_server(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"

    echo_server.assert_received(b"hello")


def test_silent_server(silent_server):
    with socket.create_connection(silent_server.address, timeout=0.1) as sock:
        sock.sendall(b"hello")
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_unix_server(unix_server):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(unix_server.path)
        sock.sendall(b"hello")

        unix_server.assert_received(b"hello")


def test_udp_peer(udp_peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", udp_peer.address)
        udp_peer.expect(b"hello")

        udp_peer.send(b"goodbye")
        assert sock.recv(100) == b"goodbye"


def test_udp_echo_server(udp_echo_server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", udp_echo_server.address)
        assert sock.recv(100) == b"hello"


def test_udp_proxy(udp_proxy, udp_echo_server):
    proxy = udp_proxy(udp_echo_server.address)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", proxy.address)
        assert sock.recv(100) == b"hello"

    proxy.client.assert_received(b"hello")


def test_unix_datagram_peer(unix_datagram_peer):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", unix_datagram_peer.path)

        unix_datagram_peer.assert_received(b"hello")


def test_unix_socket_pair(unix_socket_pair):
    sock, peer = unix_socket_pair

    sock.sendall(b"hello")

    peer.expect(b"hello")


def test_tcp_socket_pair(tcp_socket_pair):
    sock, peer = tcp_socket_pair

    peer.send(b"hello")

    assert sock.recv(100) == b"hello"


def test_raw_client(raw_client, echo_server):
    with raw_client(echo_server.address) as client:
        client.send(b"hello")
        client.expect(b"hello")


def test_tcp_proxy(tcp_proxy, echo_server):
    proxy = tcp_proxy(echo_server)

    with socket.create_connection(proxy.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"

    proxy.client.assert_received(b"hello")
    proxy.upstream.assert_received(b"hello")


def test_sockets(sockets):
    server = sockets.tcp_server(name="server")
    client = sockets.connect(server.address)

    client.send(b"hello")

    server.assert_received(b"hello")
    assert sockets.endpoints == (server, client.endpoint)


def test_refused_address(refused_address):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(refused_address.address)


def test_blackhole_address(blackhole_address):
    with pytest.raises(TimeoutError):
        socket.create_connection(blackhole_address.address, timeout=0.1)


def test_reserved_port(reserved_port, raw_client):
    with socket.create_server(reserved_port.address):
        raw_client(reserved_port.address)


def test_sweep(sweep):
    def talk(sockets):
        server = sockets.tcp_server()
        server.script().send(b"hello\n").close()
        try:
            with socket.create_connection(server.address) as sock, sock.makefile("rb") as reply:
                line = reply.readline()
        except ConnectionError:
            return
        assert b"hello\n".startswith(line)

    sweep(talk, Close(), Reset())
