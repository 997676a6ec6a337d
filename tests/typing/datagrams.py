# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import re
import socket
from typing import assert_type

from pytest_sockets import (
    Address,
    Datagram,
    DatagramPeer,
    PeerCredentials,
    UDPEchoServer,
    UDPPeer,
    UnixDatagramPeer,
)


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


def without_fixtures() -> None:
    with UDPPeer(family="ipv6") as peer, UDPEchoServer() as echo:
        assert_type(peer, UDPPeer)
        assert_type(echo, UDPEchoServer)
    with UnixDatagramPeer("here.sock") as unix, DatagramPeer(family="unix") as other:
        assert_type(unix, UnixDatagramPeer)
        assert_type(other, DatagramPeer)


def wrong(udp_peer: UDPPeer) -> None:
    udp_peer.send("hello")  # type: ignore[arg-type]  # wrong on purpose
    udp_peer.send(b"hello", ("127.0.0.1", 514))  # type: ignore[call-arg]  # wrong on purpose
    udp_peer.assert_datagrams("2")  # type: ignore[arg-type]  # wrong on purpose
    text: str = udp_peer.expect(b"hello").data  # type: ignore[assignment]  # wrong on purpose
    udp_peer.expect(b"hello").data = b""  # type: ignore[misc]  # wrong on purpose
    UDPPeer("127.0.0.1")  # type: ignore[call-arg]  # wrong on purpose
    assert text
