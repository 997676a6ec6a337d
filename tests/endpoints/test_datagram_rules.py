from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pytest_sockets import (
    Datagram,
    DatagramPeer,
    EndpointClosedError,
    MismatchError,
    Sockets,
    SocketsError,
)
from stream_ends import PATIENCE, family_of

pytestmark = pytest.mark.timeout(120)

PEERS: dict[str, Callable[[Sockets], DatagramPeer]] = {
    "ipv4": lambda sockets: sockets.udp_peer(name="peer"),
    "ipv6": lambda sockets: sockets.udp_peer(family="ipv6", name="peer"),
    "path": lambda sockets: sockets.unix_datagram_peer(name="peer"),
    "abstract": lambda sockets: sockets.unix_datagram_peer(abstract=True, name="peer"),
}


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, sockets: Sockets) -> DatagramPeer:
    return PEERS[request.param](sockets)


@pytest.fixture
def client_of() -> Iterator[Callable[[DatagramPeer], socket.socket]]:
    """Yield what makes a named plain socket that is connected to a peer."""
    with ExitStack() as stack:

        def client_of(peer: DatagramPeer) -> socket.socket:
            family = family_of(peer.address)
            names: dict[int, Any] = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
            client = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            client.settimeout(PATIENCE)
            client.bind(names.get(family, ""))
            client.connect(peer.address)
            return client

        yield client_of


ClientOf = Callable[[DatagramPeer], socket.socket]


def test_replies_go_to_the_source_in_the_order_of_the_rules(
    peer: DatagramPeer, client_of: ClientOf
) -> None:
    peer.on(b"ping", b"pong", times=1)
    peer.on(b"ping", [b"one", b"", b"two"])
    peer.on(re.compile(rb"(?s).*"), lambda datagram: datagram.data[::-1])
    first, second = client_of(peer), client_of(peer)
    for sock, data, replies in (
        (first, b"ping", [b"pong"]),
        (second, b"ping", [b"one", b"", b"two"]),
        (first, b"abc\n", [b"\ncba"]),
        (second, b"", [b""]),
        (first, b"ping", [b"one", b"", b"two"]),
    ):
        sock.send(data)
        assert [sock.recv(100) for _ in replies] == replies
    peer.check()
    peer.assert_received(b"ping", b"ping", b"abc\n", b"", b"ping")
    assert peer.sent[:4] == [b"pong", b"one", b"", b"two"]


def test_silence_sends_nothing(peer: DatagramPeer, client_of: ClientOf) -> None:
    peer.on(b"quiet", None)
    peer.on(b"also", lambda datagram: None)
    peer.on(b"loud", b"!")
    client = client_of(peer)
    for data in (b"quiet", b"also", b"loud"):
        client.send(data)
    assert client.recv(100) == b"!"
    assert peer.sent == [b"!"]


def test_a_function_gets_the_datagram_also_of_a_pattern(
    peer: DatagramPeer, client_of: ClientOf
) -> None:
    got: list[Datagram] = []
    peer.on(b"a", got.append)
    peer.on(re.compile(rb"\w"), got.append)
    client = client_of(peer)
    client.send(b"a")
    client.send(b"b")
    assert peer.datagrams == tuple(got)
    assert [datagram.data for datagram in got] == [b"a", b"b"]
    assert got[0].source is not None


def test_datagrams_that_nobody_has_taken_are_answered_when_the_first_rule_is_made(
    sockets: Sockets, client_of: ClientOf
) -> None:
    for _ in range(50):
        peer = sockets.udp_peer()
        client = client_of(peer)
        client.send(b"by the test")
        peer.expect(b"by the test")
        client.send(b"left")
        peer.on(b"left", b"1")
        assert peer.sent == [b"1"]
        peer.on(b"more", b"2")
        client.send(b"more")
        assert [client.recv(9), client.recv(9)] == [b"1", b"2"]
        peer.expect(b"left")
        peer.send(b"by hand")
        assert client.recv(9) == b"by hand"


@pytest.mark.usefixtures("forgiven")
def test_a_datagram_that_no_rule_answers_is_a_problem_at_once(
    peer: DatagramPeer, client_of: ClientOf
) -> None:
    peer.on(b"ping", b"pong", times=1)
    client = client_of(peer)
    client.send(b"ping")
    assert client.recv(9) == b"pong"
    client.send(b"ping")
    client.send(b"never looked at")
    with pytest.raises(MismatchError) as caught:
        peer.wait_datagrams(9)
    (problem,) = peer.problems
    assert caught.value is problem
    origin, _, text = str(problem).partition(": no rule ")
    assert origin.startswith("peer, a datagram from ")
    assert text == "answers b'ping'\n  on(b'ping', b'pong', times=1), used up"


@pytest.mark.usefixtures("forgiven")
def test_what_a_reply_function_raises_is_the_problem_itself(
    sockets: Sockets, client_of: ClientOf
) -> None:
    def boom(datagram: Datagram) -> bytes:
        raise LookupError(datagram.data)

    peer = sockets.udp_peer()
    peer.on(b"a", boom)
    client_of(peer).send(b"a")
    with pytest.raises(LookupError, match="b'a'") as caught:
        peer.check()
    assert caught.traceback[-1].name == "boom"


@pytest.mark.usefixtures("forgiven")
def test_a_reply_that_is_too_long_is_a_problem(sockets: Sockets, client_of: ClientOf) -> None:
    peer = sockets.udp_peer()
    peer.on(b"a", bytes(70_000))
    client_of(peer).send(b"a")
    with pytest.raises(OSError, match="Message too long"):
        peer.check()


@pytest.mark.parametrize("kind", ["udp_peer", "unix_datagram_peer"])
def test_a_reply_to_a_client_that_has_gone_is_lost(
    sockets: Sockets, client_of: ClientOf, kind: str
) -> None:
    peer: DatagramPeer = getattr(sockets, kind)()
    going, staying = client_of(peer), client_of(peer)

    def close_it(datagram: Datagram) -> list[bytes]:
        going.close()
        return [b"1", b"2"]

    peer.on(b"gone", close_it)
    peer.on(b"here", b"1")
    going.send(b"gone")
    staying.send(b"here")
    assert staying.recv(9) == b"1"
    peer.check()


def test_a_reply_to_a_full_queue_is_lost(sockets: Sockets, client_of: ClientOf) -> None:
    peer = sockets.unix_datagram_peer()
    peer.on(b"flood", [b"x"] * 5000)
    client = client_of(peer)
    client.send(b"flood")
    peer.check()
    assert 0 < len(peer.sent) < 5000
    assert client.recv(9) == b"x"


@pytest.mark.usefixtures("forgiven")
def test_an_unnamed_client_can_be_met_with_silence_only(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer(name="peer")
    peer.on(b"quiet", None)
    peer.on(b"loud", b"!")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"quiet", peer.address)
        peer.check()
        client.sendto(b"loud", peer.address)
        with pytest.raises(SocketsError) as caught:
            peer.check()
    assert str(caught.value) == (
        "peer cannot answer b'loud': it came from an unnamed socket; "
        "the client has to bind, or the rule's reply to be None"
    )


def test_a_rule_made_by_a_reply_function_answers_the_next(
    sockets: Sockets, client_of: ClientOf
) -> None:
    peer = sockets.udp_peer()

    def grow(datagram: Datagram) -> bytes:
        peer.on(b"second", b"2")
        return b"%d" % len(peer.received)

    peer.on(b"first", grow, times=1)
    client = client_of(peer)
    client.send(b"first")
    assert client.recv(9) == b"1"
    client.send(b"second")
    assert client.recv(9) == b"2"


def test_an_echo_server_and_a_closed_peer_take_no_rules(sockets: Sockets) -> None:
    with pytest.raises(SocketsError) as caught:
        sockets.udp_echo_server().on(b"a", b"b")
    assert str(caught.value) == (
        "udp_echo_server is driven by its echo behaviour, so a rule would never answer: "
        "use udp_peer instead"
    )
    peer = sockets.udp_peer()
    peer.close()
    with pytest.raises(EndpointClosedError, match="udp_peer is closed"):
        peer.on(b"a", b"b")


def test_a_refused_rule_leaves_the_peer_as_it_was(sockets: Sockets, client_of: ClientOf) -> None:
    peer = sockets.udp_peer()
    with pytest.raises(TypeError, match="request must be bytes, not str 'a'"):
        peer.on("a", b"b")  # type: ignore[arg-type]  # wrong on purpose
    client_of(peer).send(b"anything")
    peer.check()
    assert peer._notes() == []


def test_rules_that_never_answered_are_noted(sockets: Sockets, client_of: ClientOf) -> None:
    peer = sockets.udp_peer()
    peer.on(b"a", b"1")
    peer.on(b"b", b"2")
    client_of(peer).send(b"b")
    peer.check()
    assert peer._notes() == ["on(b'a', b'1') never answered"]
