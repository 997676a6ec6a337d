import re
import socket
from typing import Any

import pytest

from pytest_sockets import DatagramPair, PeerGoneError, SocketPair, Sockets
from stream_ends import read_to_eof

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_pair_is_a_plain_socket_and_a_recorded_peer(sockets: Sockets, kind: str) -> None:
    sock, peer = pair = getattr(sockets, f"{kind}_socket_pair")()
    assert type(sock) is socket.socket
    assert sock is pair.socket
    assert peer is pair.peer
    assert sock.gettimeout() is None
    sock.sendall(b"ping")
    peer.expect(b"ping")
    peer.send(b"pong")
    assert sock.recv(10) == b"pong"


def test_a_tcp_pair_is_connected_over_loopback(sockets: Sockets) -> None:
    sock, peer = sockets.tcp_socket_pair()
    assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockname() == peer.peer_address
    assert sock.getpeername()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("stream", socket.SOCK_STREAM),
        ("datagram", socket.SOCK_DGRAM),
        ("seqpacket", socket.SOCK_SEQPACKET),
    ],
)
def test_a_pair_of_any_unix_type_ends_with_its_endpoint(
    sockets: Sockets, kind: Any, number: int
) -> None:
    sock, peer = pair = sockets.socket_pair(kind)
    assert (sock.family, sock.type) == (socket.AF_UNIX, number)
    peer.send(b"to the test")
    assert sock.recv(100) == b"to the test"
    pair.close()
    pair.close()
    assert sock.fileno() == -1


def test_closing_a_pair_does_not_look_like_the_peers_eof(sockets: Sockets) -> None:
    for pair in (sockets.tcp_socket_pair(), sockets.unix_socket_pair()):
        pair.close()
        assert [event.kind for event in pair.transcript] == ["connected", "closed"]


def test_the_user_may_close_or_take_over_the_plain_end(sockets: Sockets) -> None:
    for pair in (sockets.tcp_socket_pair(), sockets.unix_socket_pair()):
        with socket.socket(fileno=pair.socket.detach()) as taken:
            taken.sendall(b"still connected")
        assert pair.peer.recv_to_eof() == b"still connected"


def test_pairs_work_as_context_managers_alone() -> None:
    with SocketPair("tcp") as (sock, peer):
        peer.send(b"a")
        peer.close()
        assert read_to_eof(sock) == b"a"
    with SocketPair(type="seqpacket") as (sock, peer):
        sock.send(b"b")
        peer.expect(b"b")
    with DatagramPair() as (sock, peer):
        sock.send(b"c")
        assert peer.expect(b"c").source is None
    assert sock.fileno() == -1


# -- messages


def test_recv_takes_one_seqpacket_message_and_its_rest_the_next_time(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("seqpacket")
    for message in (b"ab", b"", b"cdef", b"g", b"hi"):
        sock.send(message)
    peer.send(b"between")
    peer.assert_received(b"abcdefghi")
    assert [peer.recv(n) for n in (10, 3, 10, 10)] == [b"ab", b"cde", b"f", b"g"]
    peer.expect(b"h")
    for message in (b"jk", b"lmn", b"o"):
        sock.send(message)
    peer.assert_received(contains=b"o")
    assert [peer.recv_fds(10, 1)[0], peer.recv_fds(10, 1)[0]] == [b"i", b"jk"]
    assert peer.recv_exactly(4) == b"lmno"
    assert sock.recv(100) == b"between"
    sock.close()
    assert peer.recv(10) == b""


def test_recv_of_a_script_takes_one_seqpacket_message_too(sockets: Sockets) -> None:
    server, gate = sockets.server(family="unix", type=socket.SOCK_SEQPACKET), sockets.gate()
    server.script().hold(gate).recv(10, save="first").recv(10, save="second").close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(server.path)
        for message in (b"ab", b"cd"):
            client.send(message)
        conn = server.accept()
        conn.assert_received(b"abcd")
        gate.release()
        conn.wait_closed()
    assert conn.saved == {"first": b"ab", "second": b"cd"}


@pytest.mark.anyio
async def test_recv_as_a_twin_takes_one_seqpacket_message_too(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("seqpacket")
    for message in (b"ab", b"cd"):
        sock.send(message)
    peer.assert_received(b"abcd")
    assert [await peer.aio.recv(10), await peer.aio.recv(10)] == [b"ab", b"cd"]


def test_each_seqpacket_message_is_recorded_whole_up_to_the_end(sockets: Sockets) -> None:
    messages = [b"x", bytes(range(256)) * 400, b"yz", bytes(8192), bytes(8193)]
    with sockets.socket_pair("seqpacket") as pair:
        sock, peer = pair
        with pair._lock:  # all are in the kernel when the endpoint closes
            for message in messages:
                sock.send(message)
            sock.shutdown(socket.SHUT_WR)
            pair.close()
    assert [event.data for event in peer.transcript if event.kind == "received"] == messages
    assert [event.kind for event in peer.transcript][-2:] == ["peer_eof", "closed"]


def test_any_number_of_empty_seqpacket_messages_is_not_an_end(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("seqpacket")
    with peer.endpoint._lock:  # nobody reads meanwhile
        for message in [b"", b"", b"", b"behind them", b"", b""]:
            sock.send(message)
    peer.assert_received(b"behind them")
    assert peer.peer_ended is None
    with peer.endpoint._lock:
        for message in [b"", b"", b"last"]:
            sock.send(message)
        sock.close()
    peer.wait_eof()
    assert peer.received == b"behind themlast"


def test_seqpacket_messages_keep_their_bounds_on_the_way_out(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("seqpacket")
    for message in (b"one", b"two"):
        peer.send(message)
    assert [sock.recv(100), sock.recv(100)] == [b"one", b"two"]


def test_a_seqpacket_message_that_is_too_long_breaks_nothing(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("seqpacket", name="messages")
    text = "messages cannot send 100,000,000 bytes: Message too long"
    with pytest.raises(OSError, match=text):
        peer.send(bytes(100_000_000))
    peer.send(b"short")
    assert sock.recv(100) == b"short"
    peer.assert_sent(b"short")


def test_a_datagram_pair_keeps_bounds_and_knows_no_names(sockets: Sockets) -> None:
    sock, peer = sockets.socket_pair("datagram")
    for content in (b"one", b"", bytes(100_000)):
        sock.send(content)
    peer.assert_received(b"one", b"", bytes(100_000))
    assert {datagram.source for datagram in peer.datagrams} == {None}
    peer.send(b"answer")
    assert sock.recv(100) == b"answer"
    sock.close()
    with pytest.raises(PeerGoneError, match=re.escape("cannot send: Connection refused")):
        peer.send(b"anybody?")
