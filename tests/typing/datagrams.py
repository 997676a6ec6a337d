# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import assert_type

from pytest_sockets import (
    Address,
    Datagram,
    DatagramPair,
    DatagramPeer,
    Event,
    PeerCredentials,
    Sockets,
    TCPServer,
    UDPEchoServer,
    UDPPeer,
    UDPProxy,
    UnixDatagramPeer,
)
from pytest_sockets.faults import AfterReceived, AfterSent, Drop, Moment, Truncate, Unreachable


def where(udp_peer: UDPPeer, unix_datagram_peer: UnixDatagramPeer) -> None:
    assert_type(udp_peer.address, tuple[str, int])
    assert_type(udp_peer.host, str)
    assert_type(udp_peer.port, int)
    assert_type(udp_peer.url("syslog"), str)
    assert_type(unix_datagram_peer.address, str)
    assert_type(unix_datagram_peer.path, str)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", udp_peer.address)


def what_came(udp_peer: UDPPeer) -> None:
    assert_type(udp_peer.datagrams, tuple[Datagram, ...])
    assert_type(udp_peer.received, list[bytes])
    assert_type(udp_peer.sent, list[bytes])
    datagram = udp_peer.expect(b"hello", timeout=1)
    assert_type(datagram, Datagram)
    assert_type(datagram.data, bytes)
    assert_type(datagram.source, Address | None)
    assert_type(datagram.time, float)
    assert_type(datagram.credentials, PeerCredentials | None)


def what_is_required(udp_peer: UDPPeer, anything: object) -> None:
    udp_peer.expect(anything)
    udp_peer.wait_datagrams(2)
    udp_peer.assert_datagrams(2, max_size=512, timeout=1)
    udp_peer.assert_received(b"one", re.compile(rb"t.o"), anything, any_order=True, timeout=1)
    udp_peer.assert_nothing_received()


def answering(udp_peer: UDPPeer) -> None:
    udp_peer.send(b"hello")
    udp_peer.send(b"hello", to=("127.0.0.1", 514))
    udp_peer.send(b"hello", to=udp_peer.expect(b"hello").source)


async def files(unix_datagram_peer: UnixDatagramPeer) -> None:
    peer = unix_datagram_peer
    assert_type(peer.recv_fds(), tuple[Datagram, list[int]])
    assert_type(await peer.aio.recv_fds(1, timeout=1), tuple[Datagram, list[int]])
    peer.send_fds(b"hello", [0], to=peer.path)
    await peer.aio.send_fds(b"hello", [0])


def rules(udp_peer: UDPPeer, unix_datagram_peer: UnixDatagramPeer) -> None:
    udp_peer.on(b"ping", b"pong")
    udp_peer.on(b"ping", None, times=2)
    udp_peer.on(b"ping", [b"one", b"two"])
    unix_datagram_peer.on(re.compile(rb"ping"), lambda datagram: datagram.data)
    udp_peer.on("ping", b"pong")  # type: ignore[arg-type]  # wrong on purpose
    udp_peer.on(b"ping", "pong")  # type: ignore[arg-type]  # wrong on purpose


def faults(udp_peer: UDPPeer, unix: UnixDatagramPeer, pair: DatagramPair) -> None:
    fault = udp_peer.fault(Drop(0.5), at=AfterSent(2), times=3, must_hit=False)
    assert_type(fault.hits, int)
    assert_type(fault.moment, Moment | None)
    fault.wait_hit(2, timeout=1)
    with unix.fault(Truncate(2), at=AfterReceived(b"x")), pair.fault(Drop()):
        pair.send(b"hello")
    udp_peer.fault("drop")  # type: ignore[arg-type]  # wrong on purpose
    udp_peer.fault(Drop)  # type: ignore[arg-type]  # wrong on purpose
    udp_peer.fault(Drop(), AfterSent(2))  # type: ignore[call-arg]  # wrong on purpose
    udp_peer.fault(Drop(), at=2)  # type: ignore[arg-type]  # wrong on purpose


def proxies(sockets: Sockets, udp_proxy: Callable[..., UDPProxy], tcp_server: TCPServer) -> None:
    proxy = sockets.udp_proxy(("127.0.0.1", 53), family="ipv6", name="dns")
    assert_type(proxy, UDPProxy)
    assert_type(sockets.udp_proxy(proxy), UDPProxy)
    assert_type(sockets.udp_proxy(sockets.udp_echo_server()), UDPProxy)
    assert_type(udp_proxy(("127.0.0.1", 53)), UDPProxy)
    assert_type(proxy.address, tuple[str, int])
    assert_type(proxy.client.received, list[bytes])
    assert_type(proxy.upstream.datagrams, tuple[Datagram, ...])
    assert_type(proxy.transcript, tuple[Event, ...])
    proxy.wait_forwarded(b"x", direction="reply", timeout=1)
    proxy.fault(Unreachable())
    proxy.fault(Drop(), at=AfterSent(1), direction="request", times=1, must_hit=False)
    proxy.fault(Drop(), direction="there")  # type: ignore[arg-type]  # wrong on purpose
    proxy.fault(Drop(), connection=1)  # type: ignore[call-arg]  # wrong on purpose
    sockets.udp_proxy(tcp_server)  # type: ignore[arg-type]  # wrong on purpose


async def awaiting(proxy: UDPProxy, udp_peer: UDPPeer) -> None:
    await proxy.aio.wait_forwarded(b"x")
    await udp_peer.fault(Drop()).aio.wait_hit()


def without_fixtures() -> None:
    with UDPPeer(family="ipv6") as peer, UDPEchoServer() as echo:
        assert_type(peer, UDPPeer)
        assert_type(echo, UDPEchoServer)
    with UnixDatagramPeer("here.sock") as unix, DatagramPeer(family="unix") as other:
        assert_type(unix, UnixDatagramPeer)
        assert_type(other, DatagramPeer)
    with UDPProxy(("127.0.0.1", 53)) as proxy:
        assert_type(proxy, UDPProxy)


def wrong(udp_peer: UDPPeer) -> None:
    udp_peer.send("hello")  # type: ignore[arg-type]  # wrong on purpose
    udp_peer.send(b"hello", ("127.0.0.1", 514))  # type: ignore[call-arg]  # wrong on purpose
    udp_peer.assert_datagrams("2")  # type: ignore[arg-type]  # wrong on purpose
    text: str = udp_peer.expect(b"hello").data  # type: ignore[assignment]  # wrong on purpose
    udp_peer.expect(b"hello").data = b""  # type: ignore[misc]  # wrong on purpose
    UDPPeer("127.0.0.1")  # type: ignore[call-arg]  # wrong on purpose
    assert text
