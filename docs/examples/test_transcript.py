"""What an endpoint has recorded."""

import socket


def test_what_happened(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    echo_server.wait_closed(1)

    kinds = [event.kind for event in echo_server.transcript]
    assert kinds == ["accepted", "received", "sent", "peer_eof", "eof_sent", "closed"]

    received = echo_server.transcript[1]
    assert received.data == b"hello"
    assert received.endpoint == "echo_server"
    assert received.connection == 0


def test_a_connection_stays_readable_after_its_end(echo_server):
    with socket.create_connection(echo_server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    echo_server.close()

    (connection,) = echo_server.connections
    assert connection.received == b"hello"
    assert connection.peer_ended == "eof"


def test_where_a_datagram_came_from(udp_peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"hello", udp_peer.address)

        (datagram,) = udp_peer.datagrams
        assert datagram.data == b"hello"
        assert datagram.source == sock.getsockname()
