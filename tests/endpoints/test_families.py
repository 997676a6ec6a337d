import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_sockets import DatagramPeer, Sockets, StreamServer, UnsupportedError
from stream_ends import OWN_HOST, PATIENCE, family_of, plain_client, read_to_eof

STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
# By number: Python names a family only where it was built with it.
VSOCK, TIPC, NETLINK = 40, 30, 16
SCTP, UDPLITE, MPTCP = 132, 136, 262
VSOCK_LOOPBACK = (1, 0xFFFFFFFF)  # vsock(7): VMADDR_CID_LOCAL, VMADDR_PORT_ANY
TIPC_NAME = (1, 18888, 0, 0)  # TIPC_ADDR_NAMESEQ; tipc(7)

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Kind:
    """A family, type and protocol, and where to bind in its own form."""

    family: int
    type: int
    proto: int = 0
    address: Any = None


STREAMS = {
    "ipv4": Kind(socket.AF_INET, STREAM),
    "ipv6": Kind(socket.AF_INET6, STREAM),
    "ipv4-address": Kind(socket.AF_INET, STREAM, 0, ("127.0.0.1", 0)),
    "unix": Kind(socket.AF_UNIX, STREAM),
    "unix-seqpacket": Kind(socket.AF_UNIX, SEQPACKET),
    "mptcp-ipv4": Kind(socket.AF_INET, STREAM, MPTCP),
    "mptcp-ipv6": Kind(socket.AF_INET6, STREAM, MPTCP),
    "sctp-ipv4": Kind(socket.AF_INET, STREAM, SCTP),
    "sctp-ipv6": Kind(socket.AF_INET6, STREAM, SCTP),
    "vsock-stream": Kind(VSOCK, STREAM, 0, VSOCK_LOOPBACK),
    "vsock-seqpacket": Kind(VSOCK, SEQPACKET, 0, VSOCK_LOOPBACK),
    "tipc-stream": Kind(TIPC, STREAM, 0, TIPC_NAME),
    "tipc-seqpacket": Kind(TIPC, SEQPACKET, 0, TIPC_NAME),
}
DATAGRAMS = {
    "ipv4": Kind(socket.AF_INET, DGRAM),
    "ipv6": Kind(socket.AF_INET6, DGRAM),
    "unix": Kind(socket.AF_UNIX, DGRAM),
    "udplite-ipv4": Kind(socket.AF_INET, DGRAM, UDPLITE),
    "udplite-ipv6": Kind(socket.AF_INET6, DGRAM, UDPLITE),
    "netlink": Kind(NETLINK, DGRAM, 2, (0, 0)),  # netlink(7): NETLINK_USERSOCK
    "vsock": Kind(VSOCK, DGRAM, 0, VSOCK_LOOPBACK),
    "tipc": Kind(TIPC, DGRAM, 0, TIPC_NAME),
}


def open_or_skip(sockets: Sockets, kind: Kind) -> Any:
    try:
        return sockets.server(
            family=kind.family, type=kind.type, proto=kind.proto, address=kind.address
        )
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_any_family_carries_bytes_both_ways(sockets: Sockets, name: str) -> None:
    kind = STREAMS[name]
    server: StreamServer = open_or_skip(sockets, kind)
    with socket.socket(kind.family, kind.type, kind.proto) as client:
        client.settimeout(PATIENCE)
        client.connect(server.address)
        conn = server.accept()
        client.sendall(b"ping")
        conn.expect(b"ping")
        conn.send(b"pong")
        assert client.recv(100) == b"pong"
        conn.close()
        assert read_to_eof(client) == b""
    conn.expect_eof()
    server.assert_connections(1)


@pytest.mark.parametrize("name", DATAGRAMS)
def test_a_datagram_of_any_family_goes_both_ways(sockets: Sockets, name: str) -> None:
    kind = DATAGRAMS[name]
    peer: DatagramPeer = open_or_skip(sockets, kind)
    with socket.socket(kind.family, kind.type, kind.proto) as client:
        client.settimeout(PATIENCE)
        own = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: ""}
        client.bind(own.get(kind.family, kind.address))
        client.sendto(b"ping", peer.address)
        peer.expect(b"ping")
        peer.send(b"pong")
        assert client.recv(100) == b"pong"


@pytest.mark.parametrize("address", [None, "an address"])
def test_a_family_that_the_machine_lacks_is_refused_in_the_kernels_words(
    sockets: Sockets, address: Any
) -> None:
    with pytest.raises(OSError, match="not supported") as kernel:
        socket.socket(99, STREAM)
    text = f"this machine has no family 99 SOCK_STREAM socket: {kernel.value.strerror}"
    with pytest.raises(UnsupportedError, match=text) as caught:
        sockets.server(family=99, address=address)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_protocol_that_the_family_lacks_is_refused_in_the_kernels_words(sockets: Sockets) -> None:
    text = "no AF_UNIX SOCK_STREAM socket of protocol 132: Protocol not supported"
    with pytest.raises(UnsupportedError, match=text):
        sockets.server(family=socket.AF_UNIX, proto=SCTP)


def test_a_type_that_cannot_listen_is_a_datagram_peer(sockets: Sockets) -> None:
    assert isinstance(sockets.server(family="unix", type=DGRAM), DatagramPeer)
    assert isinstance(sockets.server(family="unix", type=SEQPACKET), StreamServer)


# -- host and port


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "::"])
def test_a_server_and_a_peer_are_at_the_host_that_was_asked_for(
    sockets: Sockets, host: str
) -> None:
    server, peer = sockets.tcp_server(host=host), sockets.udp_peer(host=host)
    assert server.host == peer.host == host
    assert (server.address, peer.address) == ((host, server.port), (host, peer.port))
    _exchange(server, peer)


def test_a_server_can_be_at_this_machines_own_name(sockets: Sockets) -> None:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, 0)
    except socket.gaierror as error:
        pytest.skip(f"this machine's name {name!r} cannot be resolved: {error}")
    server, peer = sockets.tcp_server(host=name), sockets.udp_peer(host=name)
    assert server.host == name
    _exchange(server, peer)


def _exchange(server: StreamServer, peer: DatagramPeer) -> None:
    with socket.create_connection(server.address, PATIENCE) as client:
        client.sendall(b"stream")
        server.accept().expect(b"stream")
    for address in server.addresses:
        with plain_client(address):
            server.accept()
    for family, *_, address in socket.getaddrinfo(*peer.address, type=DGRAM):
        with socket.socket(family, DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"datagram", address)
            peer.expect(b"datagram")
            peer.send(b"answer")
            assert client.recv(100) == b"answer"


@pytest.fixture
def held_port() -> Iterator[int]:
    # Bound but never listening, which a listener with the same option may join (socket(7)).
    with socket.socket(
        socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    ) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if holder.family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        holder.bind(("", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("form", [int, str], ids=["number", "numeric_string"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_a_port_can_be_given_as_a_number_or_a_string(
    sockets: Sockets, family: str, form: Any, held_port: int
) -> None:
    server = sockets.tcp_server(family=family, port=form(held_port))
    for address in server.addresses:
        assert address[1] == held_port
        with plain_client(address):
            server.accept()


def test_a_port_can_be_given_as_a_service_name(sockets: Sockets) -> None:
    name, number = "discard", 9
    try:
        assert socket.getservbyname(name, "tcp") == socket.getservbyname(name, "udp") == number
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as probe:
                probe.bind(("127.0.0.1", number))
    except PermissionError as error:
        pytest.skip(f"only root may bind to port {number} here: {error}")
    except OSError as error:
        pytest.skip(f"service {name!r} is not known here, or its port is taken: {error}")
    server = sockets.tcp_server(port=name)
    peer = sockets.udp_peer(port=name)
    assert (server.port, peer.port) == (number, number)
    with plain_client(server.address):
        server.accept()


def test_the_ipv6_wildcard_leaves_the_port_of_ipv4_alone(sockets: Sockets) -> None:
    server = sockets.tcp_server(host="::")
    with pytest.raises(ConnectionRefusedError):
        plain_client((OWN_HOST, server.port))


def test_dual_servers_hold_one_port_on_both_loopbacks(sockets: Sockets) -> None:
    for server in [sockets.tcp_server(family="dual") for _ in range(20)]:
        for address in server.addresses:
            with socket.socket(family_of(address)) as other:
                with pytest.raises(OSError, match="Address already in use"):
                    other.bind(address)
