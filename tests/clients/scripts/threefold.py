"""Serves a name that /etc/hosts gives three addresses, and asks at each of them."""

import socket

from pytest_sockets import Sockets

NAME = "threefold"


def plain_client(address: tuple[str, int], kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    client = socket.socket(family, kind)
    client.settimeout(60)
    client.connect(address)  # a connected UDP socket takes answers from this address only
    return client


def stream(sockets: Sockets) -> int:
    server = sockets.echo_server(host=NAME)
    assert server.address == (NAME, server.port)
    for address in server.addresses:
        with plain_client(address, socket.SOCK_STREAM) as client:
            client.sendall(address[0].encode())
            assert client.recv(64) == address[0].encode()
    assert [conn.received.decode() for conn in server.connections] == found(server.port)
    return len(server.connections)


def datagram(sockets: Sockets) -> int:
    server = sockets.udp_echo_server(host=NAME)
    for host in found(server.port):
        with plain_client((host, server.port), socket.SOCK_DGRAM) as client:
            client.send(host.encode())
            assert client.recv(64) == host.encode()
    return len(server.datagrams)


def peer(sockets: Sockets) -> int:
    peer = sockets.udp_peer(host=NAME)
    clients = {
        host: plain_client((host, peer.port), socket.SOCK_DGRAM) for host in found(peer.port)
    }
    for host, client in clients.items():
        client.send(host.encode())
        peer.expect(host.encode())
        peer.send(b"at once")
        assert client.recv(64) == b"at once"
    for got in peer.datagrams:
        peer.send(b"later", to=got.source)
        assert clients[got.data.decode()].recv(64) == b"later"
    for client in clients.values():
        client.close()
    return len(clients)


def found(port: int) -> list[str]:
    return [entry[4][0] for entry in socket.getaddrinfo(NAME, port, type=socket.SOCK_STREAM)]


with Sockets() as sockets:
    for part in (stream, datagram, peer):
        print(part.__name__, part(sockets))
