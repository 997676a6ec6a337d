# pyright: reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

from pytest_sockets import (
    Connection,
    EchoServer,
    Endpoint,
    Event,
    Settings,
    Sockets,
    StreamEndpoint,
    StreamServer,
    TCPProxy,
    UDPPeer,
    UnixServer,
)


def upstreams(sockets: Sockets, echo_server: EchoServer, unix_server: UnixServer) -> None:
    first = sockets.tcp_proxy(("127.0.0.1", 5432))
    assert_type(first, TCPProxy)
    assert_type(sockets.tcp_proxy(("localhost", "postgresql"), family="ipv6"), TCPProxy)
    assert_type(sockets.tcp_proxy("/run/it", host="localhost", port="http"), TCPProxy)
    assert_type(sockets.tcp_proxy(Path("/run/it"), name="gateway"), TCPProxy)
    assert_type(sockets.tcp_proxy(echo_server.address), TCPProxy)
    for server in (echo_server, unix_server, first):
        assert_type(sockets.tcp_proxy(server), TCPProxy)


def the_fixture(tcp_proxy: Callable[..., TCPProxy]) -> None:
    assert_type(tcp_proxy(("127.0.0.1", 5432)), TCPProxy)


def where_it_is(proxy: TCPProxy) -> None:
    host, port = proxy.address
    assert_type(host, str)
    assert_type(port, int)
    assert_type(proxy.host, str)
    assert_type(proxy.port, int)
    assert_type(proxy.family, str)
    assert_type(proxy.url("redis"), str)


def what_it_has(proxy: TCPProxy) -> None:
    assert_type(proxy.client, StreamServer)
    assert_type(proxy.upstream, StreamEndpoint)
    assert_type(proxy.endpoints, tuple[Endpoint, Endpoint])
    assert_type(proxy.name, str)
    assert_type(proxy.settings, Settings)
    assert_type(proxy.problems, tuple[BaseException, ...])
    assert_type(proxy.transcript, tuple[Event, ...])
    assert_type(proxy.is_closed, bool)
    proxy.check()
    proxy.close()


def what_was_passed_on(proxy: TCPProxy) -> None:
    for side in (proxy.client, proxy.upstream):
        assert_type(side.connections, tuple[Connection, ...])
        assert_type(side.received, bytes)
        assert_type(side.sent, bytes)
        side.wait_connections(1)
        side.wait_closed(1, timeout=2.5)
        side.assert_connections(1)
        side.assert_received(b"all of it")
        side.assert_sent(contains=b"some of it")
        side.assert_nothing_received()
    proxy.wait_forwarded(b"COMMIT")
    proxy.wait_forwarded(b"OK", direction="reply", timeout=1)


async def awaited(proxy: TCPProxy) -> None:
    await proxy.aio.wait_forwarded(b"COMMIT", direction="request")
    await proxy.upstream.aio.wait_connections(1)
    await proxy.upstream.aio.assert_sent(b"all of it")
    assert_type(await proxy.client.aio.accept(), Connection)


def without_fixtures() -> None:
    with TCPProxy(("127.0.0.1", 5432), name="gateway", settings=Settings(timeout=1)) as proxy:
        assert_type(proxy, TCPProxy)


def wrong(sockets: Sockets, proxy: TCPProxy, udp_peer: UDPPeer) -> None:
    sockets.tcp_proxy()  # type: ignore[call-arg]  # wrong on purpose
    sockets.tcp_proxy(5432)  # type: ignore[arg-type]  # wrong on purpose
    sockets.tcp_proxy(udp_peer)  # type: ignore[arg-type]  # wrong on purpose
    proxy.wait_forwarded("COMMIT")  # type: ignore[arg-type]  # wrong on purpose
    proxy.wait_forwarded(b"OK", direction="down")  # type: ignore[arg-type]  # wrong on purpose
    proxy.upstream.accept()  # type: ignore[attr-defined]  # wrong on purpose
