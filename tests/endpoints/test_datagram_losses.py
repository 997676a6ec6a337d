"""A claim about datagrams does not hold while some of them were lost."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from losing import shrink
from pytest_sockets import EndpointError, Sockets, UDPPeer, UDPProxy
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from stream_ends import FOREVER, PATIENCE, Background, family_of
from told import told

FAMILIES = ["ipv4", "ipv6"]
SENT = 50

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("forgiven")]


def plain(address: Any) -> socket.socket:
    """Return a plain socket connected to an address."""
    sock = socket.socket(family_of(address), socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    return sock


@pytest.fixture(params=FAMILIES)
def peer(request: pytest.FixtureRequest, sockets: Sockets) -> UDPPeer:
    return sockets.udp_peer(family=request.param, name="peer")


@pytest.fixture
def client(peer: UDPPeer) -> Iterator[socket.socket]:
    with plain(peer.address) as client:
        yield client


def lose(peer: DatagramEndpoint, client: socket.socket) -> None:
    """Send more than can be kept."""
    with peer._lock:  # nobody reads meanwhile
        shrink(peer._sockets[0])
        for _ in range(SENT):
            client.send(b"x")


CLAIMS: dict[str, Callable[[UDPPeer, int], object]] = {
    "datagrams": lambda peer, kept: peer.assert_datagrams(kept, timeout=FOREVER),
    "all of them": lambda peer, _: peer.assert_datagrams(SENT, timeout=FOREVER),
    "received": lambda peer, kept: peer.assert_received(*[b"x"] * kept, timeout=FOREVER),
    "any order": lambda peer, kept: peer.assert_received(
        *[b"x"] * kept, any_order=True, timeout=FOREVER
    ),
    "nothing": lambda peer, _: peer.assert_nothing_received(),
    "wait": lambda peer, kept: peer.wait_datagrams(kept, timeout=FOREVER),
    "expect": lambda peer, _: peer.expect(b"x", timeout=FOREVER),
    "check": lambda peer, _: peer.check(),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_claim_holds_beside_a_loss(peer: UDPPeer, client: socket.socket, claim: str) -> None:
    lose(peer, client)
    kept = len(peer.received)
    assert 0 < kept < SENT
    with pytest.raises(EndpointError, match=f"^peer has lost {SENT - kept} datagrams that its rec"):
        CLAIMS[claim](peer, kept)


def test_a_loss_ends_a_wait(
    peer: UDPPeer, client: socket.socket, armed: threading.Semaphore
) -> None:
    with Background() as background:
        waiting = background.submit(peer.wait_datagrams, SENT, timeout=FOREVER)
        armed.acquire()
        lose(peer, client)
        with pytest.raises(EndpointError, match="has lost"):
            waiting.result()


def test_an_echo_that_lost_something_says_so(sockets: Sockets) -> None:
    echo = sockets.udp_echo_server()
    with plain(echo.address) as client:
        lose(echo, client)
        (problem,) = told(echo)
        lost = int(re.findall(r"udp_echo_server has lost (\d+) datagrams", problem)[0])
        for _ in range(SENT - lost):
            assert client.recv(9) == b"x"


def test_an_endpoint_with_several_sockets_counts_for_each(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopbacks = [
        (family, socket.SOCK_DGRAM, 17, "", (host, 0))
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    ]
    monkeypatch.setattr("_socket.getaddrinfo", lambda *_: loopbacks)
    peer = sockets.udp_peer(host="both.example", name="peer")
    second = peer._sockets[1]
    with plain(peer.addresses[1]) as client, peer._lock:
        shrink(second)
        for _ in range(SENT):
            client.send(b"x")
    kept = len(peer.received)
    with pytest.raises(EndpointError, match=f"has lost {SENT - kept} datagrams"):
        peer.assert_datagrams(kept)


# -- a proxy


@pytest.fixture(params=FAMILIES)
def upstream(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Yield a plain server's socket."""
    family, host = {
        "ipv4": (socket.AF_INET, "127.0.0.1"),
        "ipv6": (socket.AF_INET6, "::1"),
    }[request.param]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind((host, 0))
        yield sock


@pytest.fixture
def proxy(sockets: Sockets, upstream: socket.socket) -> UDPProxy:
    family = "ipv6" if upstream.family == socket.AF_INET6 else "ipv4"
    return sockets.udp_proxy(upstream.getsockname()[:2], family=family, name="proxy")


def test_what_a_proxy_loses_of_requests_is_its_clients_sides_problem(proxy: UDPProxy) -> None:
    side = proxy.client
    with plain(proxy.address) as client:
        lose(side, client)
    kept = len(side.received)
    for claim in (lambda: side.assert_datagrams(kept), lambda: proxy.wait_forwarded(b"x")):
        with pytest.raises(
            EndpointError, match=f"^proxy client has lost {SENT - kept} datagrams that its record"
        ):
            claim()


def test_what_a_proxy_loses_of_replies_is_its_other_sides_problem(
    proxy: UDPProxy, upstream: socket.socket
) -> None:
    side = proxy.upstream
    with plain(proxy.address) as client:
        host, port = client.getsockname()[:2]
        client.send(b"request")
        source = upstream.recvfrom(99)[1]
        side.assert_datagrams(0)
        with side._lock:
            shrink(side._sockets[0])
            for _ in range(SENT):
                upstream.sendto(b"x", source)
        kept = len(side.received)
        where = re.escape(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        for claim in (
            lambda: side.assert_datagrams(kept),
            lambda: proxy.wait_forwarded(b"x", direction="reply"),
        ):
            with pytest.raises(
                EndpointError,
                match=f"^proxy upstream has lost {SENT - kept} datagrams for {where} that its rec",
            ):
                claim()


def test_a_proxy_has_room_for_a_burst_on_both_sides(
    proxy: UDPProxy, upstream: socket.socket
) -> None:
    number, content = 150, bytes(1000)
    with plain(proxy.address) as client:
        client.send(b"first")
        source = upstream.recvfrom(99)[1]
        # What waits at the plain sockets must not be lost either.
        for sock in (client, upstream):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        room = client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)  # what everybody gets
        if room < 2500 * number:
            pytest.skip(f"net.core.rmem_max leaves {room} bytes, which are too few")
        with proxy.client._lock:  # nobody reads meanwhile
            for _ in range(number):
                client.send(content)
                upstream.sendto(content, source)
        for sock in (client, upstream):
            assert [sock.recv(2000) for _ in range(number)] == [content] * number
    proxy.client.assert_datagrams(1 + number)
    proxy.upstream.assert_datagrams(number)
    assert told(proxy.client) + told(proxy.upstream) == []
