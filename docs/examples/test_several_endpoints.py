"""Tests that need more than one endpoint, or one of another family."""

import socket

import pytest

from pytest_sockets import UnsupportedError


def send_first(addresses, content):
    """Send to the first address where somebody listens."""
    for address in addresses:
        try:
            with socket.create_connection(address) as sock:
                sock.sendall(content)
                return
        except ConnectionRefusedError:
            continue
    raise ConnectionRefusedError("nobody listens")


def test_the_second_server_is_left_alone(sockets):
    primary = sockets.tcp_server(name="primary")
    secondary = sockets.tcp_server(name="secondary")

    send_first([primary.address, secondary.address], b"hello")

    primary.assert_received(b"hello")
    secondary.assert_connections(0)


def test_the_log_is_written_before_the_data(sockets):
    log = sockets.udp_peer(name="log")
    store = sockets.tcp_server(name="store")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"about to store", log.address)
        log.wait_datagrams(1)
    send_first([store.address], b"data")

    store.assert_received(b"data")
    sockets.assert_order(b"about to store", b"data")


@pytest.mark.sockets(family="ipv6")
def test_over_ipv6(tcp_server):
    send_first([tcp_server.address], b"hello")

    assert tcp_server.host == "::1"
    tcp_server.assert_received(b"hello")


@pytest.mark.sockets(family="dual")
def test_both_loopbacks_on_one_port(tcp_server):
    ipv4, ipv6 = tcp_server.addresses

    send_first([ipv4], b"over IPv4")
    send_first([ipv6], b"over IPv6")

    first, second = tcp_server.connections
    first.assert_received(b"over IPv4")
    second.assert_received(b"over IPv6")


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def server(request, sockets):
    try:
        return sockets.stream_server(family=request.param)
    except UnsupportedError as error:
        pytest.skip(str(error))


def test_on_every_family(server, raw_client):
    with raw_client(server.address) as client:
        client.send(b"hello")

        server.assert_received(b"hello")


def test_by_name(sockets):
    server = sockets.echo_server(host="localhost")

    assert server.address == ("localhost", server.port)
    with socket.create_connection(server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"


def test_the_same_port_on_another_host(sockets):
    first = sockets.tcp_server(host="127.0.0.1")
    second = sockets.tcp_server(host="127.0.0.2", port=first.port)

    send_first([second.address], b"hello")

    second.assert_received(b"hello")
    first.assert_connections(0)


def test_a_given_path(sockets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative path is short, wherever the folder is
    server = sockets.unix_server("control.sock")

    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("control.sock")
        sock.sendall(b"hello")

    server.assert_received(b"hello")


def test_packets_in_order(sockets):
    server = sockets.server(family="unix", type=socket.SOCK_SEQPACKET)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(server.path)
        sock.send(b"first")
        sock.send(b"second")

        conn = server.accept()
        assert conn.recv(100) == b"first"
        assert conn.recv(100) == b"second"

    packets = [event.data for event in server.transcript if event.kind == "received"]
    assert packets == [b"first", b"second"]


def test_a_client_of_virtual_machines(sockets):
    try:
        server = sockets.server(
            family=socket.AF_VSOCK,
            address=(socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY),
        )
    except UnsupportedError as error:
        pytest.skip(str(error))

    cid, port = server.address
    assert cid == socket.VMADDR_CID_ANY
    assert port != socket.VMADDR_PORT_ANY
