import hashlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bad_input import Call, Case, Desk, check, open_desk
from proxied import Proxied, accept, black_hole, held_up, kinds, listening, proxied, stall
from pytest_sockets import (
    EndpointClosedError,
    EndpointError,
    MismatchError,
    Settings,
    SocketPair,
    Sockets,
    SocketsError,
    TCPProxy,
    UDPProxy,
    WaitTimeout,
)
from pytest_sockets._endpoints.relaying import BOUND
from pytest_sockets._engine.stream_base import LARGE_READ
from pytest_sockets.faults import AfterSent, Close, Delay
from stream_ends import (
    FOREVER,
    OWN_HOST,
    PATIENCE,
    Background,
    forget,
    plain_client,
    read_to_eof,
)

FAMILIES = ["ipv4", "ipv6", "unix"]
LARGE = os.urandom(1 << 20)
CONTENT = LARGE * 64
"""More than the kernel holds of all sockets on the way."""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=FAMILIES)
def line(request: pytest.FixtureRequest, sockets: Sockets) -> Iterator[Proxied]:
    with proxied(sockets, request.param) as line:
        yield line


# -- passing on


@pytest.mark.parametrize("upstream", [*FAMILIES, "dual"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_everything_is_passed_on_and_back(sockets: Sockets, family: str, upstream: str) -> None:
    echo = sockets.echo_server(family=upstream)
    proxy = sockets.tcp_proxy(echo, family=family)
    assert proxy.family == family
    for address in proxy.client.addresses:
        with plain_client(address) as client, Background() as pool:
            reading = pool.submit(read_to_eof, client)
            client.sendall(LARGE)
            client.shutdown(socket.SHUT_WR)
            assert reading.result() == LARGE
    number = len(proxy.client.addresses)
    assert echo.received == LARGE * number
    for side in (proxy.client, proxy.upstream):
        assert side.received == side.sent == LARGE * number
        side.wait_closed(number, timeout=FOREVER)


def test_the_server_may_speak_first(line: Proxied) -> None:
    line.server.sendall(b"220 ready\r\n")
    assert line.client.recv(100) == b"220 ready\r\n"
    line.proxy.upstream.assert_received(b"220 ready\r\n")
    line.proxy.client.assert_nothing_received()


def test_what_comes_before_the_upstream_is_there_is_passed_on(sockets: Sockets) -> None:
    with listening() as listener:
        proxy = sockets.tcp_proxy(listener.getsockname())
        with held_up(proxy), plain_client(proxy.address) as client:
            client.sendall(b"all that it has to say")
        with accept(listener) as server:
            assert read_to_eof(server) == b"all that it has to say"
    assert kinds(proxy.client.connections[0])[:3] == ["accepted", "received", "peer_eof"]


def test_more_than_the_upstream_takes_at_once_may_come_before_it(sockets: Sockets) -> None:
    with listening("unix") as listener, Background() as pool:
        proxy = sockets.tcp_proxy(os.fsdecode(listener.getsockname()))
        with held_up(proxy):
            client = plain_client(proxy.address)
            first = stall(client, None, CONTENT)
        with client, accept(listener) as server:
            proxy.client.wait_connections(1)
            assert line_is_full(proxy), f"{first} bytes found room in the kernel"
            reading = pool.submit(read_to_eof, server)
            client.shutdown(socket.SHUT_WR)
            assert reading.result() == CONTENT[:first]


def line_is_full(proxy: TCPProxy) -> bool:
    return proxy.upstream.connections[0]._stream.queued > 0


def test_little_is_read_before_the_upstream_is_there(sockets: Sockets) -> None:
    with black_hole() as (address, open_it):
        proxy = sockets.tcp_proxy(address)
        with plain_client(proxy.address) as client:
            taken = stall(client, proxy, CONTENT)
            assert BOUND < len(proxy.client.received) <= BOUND + LARGE_READ
            assert proxy.upstream.connections == ()
            client.shutdown(socket.SHUT_WR)
            with open_it() as server:
                assert read_to_eof(server) == CONTENT[:taken]
    proxy.client.assert_received(CONTENT[:taken])


@pytest.mark.parametrize("ours", ["str", "bytes", "Path"])
def test_an_upstream_may_be_a_path(sockets: Sockets, ours: str) -> None:
    echo = sockets.echo_server(family="unix")
    upstream: dict[str, Any] = {"str": str, "bytes": os.fsencode, "Path": Path}
    proxy = sockets.tcp_proxy(upstream[ours](echo.address))
    with plain_client(proxy.address) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
    echo.assert_received(b"ping")
    assert proxy.upstream.connections[0].peer_address == echo.address


@pytest.mark.parametrize("as_pair", [True, False])
def test_a_proxy_may_stand_before_another(sockets: Sockets, as_pair: bool) -> None:
    echo = sockets.echo_server()
    first = sockets.tcp_proxy(echo.address if as_pair else echo)
    second = sockets.tcp_proxy(first.address if as_pair else first)
    with plain_client(second.address) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
    for proxy in (first, second):
        proxy.upstream.assert_sent(b"ping")
        proxy.client.assert_sent(b"ping")


def test_a_name_is_resolved_at_once_and_shown_as_it_was_given(sockets: Sockets) -> None:
    echo = sockets.echo_server(host="localhost")
    proxy = sockets.tcp_proxy(("localhost", str(echo.port)))
    with plain_client(proxy.address) as client:
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
    assert proxy.upstream.connections[0].peer_address in echo.addresses
    assert f"to localhost:{echo.port}" in repr(proxy)


# -- the records


def test_both_sides_are_recorded_as_the_proxy_sees_them(line: Proxied) -> None:
    line.client.sendall(b"question")
    assert line.server.recv(100) == b"question"
    line.server.sendall(b"answer")
    assert line.client.recv(100) == b"answer"
    client, upstream = line.proxy.client, line.proxy.upstream
    assert (client.received, client.sent) == (b"question", b"answer")
    assert (upstream.received, upstream.sent) == (b"answer", b"question")
    client.assert_received(b"question")
    client.assert_sent(contains=b"swer")
    upstream.assert_sent(re.compile(b"^quest"))
    upstream.assert_received(b"answer")
    for side in (client, upstream):
        side.assert_connections(1)
        side.wait_connections(1)
    with pytest.raises(MismatchError, match=r"^tcp_proxy upstream received something else"):
        upstream.assert_received(b"Answer")
    with pytest.raises(MismatchError, match=r"^tcp_proxy upstream received bytes on 1 connection"):
        upstream.assert_nothing_received()
    with pytest.raises(
        WaitTimeout, match=r"^tcp_proxy upstream: waited 0 s for 2 connections, 1 s"
    ):
        upstream.wait_connections(2, timeout=0)


def test_the_transcript_has_both_sides_in_one_order(line: Proxied) -> None:
    line.client.sendall(b"question")
    line.server.recv(100)
    line.server.sendall(b"answer")
    line.client.recv(100)
    line.client.close()
    assert line.server.recv(1) == b""
    line.server.close()
    line.proxy.client.wait_closed(1, timeout=FOREVER)
    transcript = line.proxy.transcript
    told = [(event.endpoint.removeprefix("tcp_proxy "), event.kind) for event in transcript]
    opened = told.index(("upstream", "connected"))
    told = told[:opened] + told[opened + 1 :]  # before or behind the client's first bytes
    assert told == [
        ("client", "accepted"),
        ("client", "received"),
        ("upstream", "sent"),
        ("upstream", "received"),
        ("client", "sent"),
        ("client", "peer_eof"),
        ("upstream", "eof_sent"),
        ("upstream", "peer_eof"),
        ("upstream", "closed"),
        ("client", "eof_sent"),
        ("client", "closed"),
    ]
    assert {event.connection for event in transcript} == {0}
    assert [event.time for event in transcript] == sorted(event.time for event in transcript)


def test_the_factory_has_both_sides_and_names_them(sockets: Sockets) -> None:
    echo = sockets.echo_server()
    first, second = sockets.tcp_proxy(echo), sockets.tcp_proxy(echo.address)
    third = sockets.tcp_proxy(echo, name="gateway", port=0)
    names = [endpoint.name for endpoint in sockets.endpoints[1:]]
    assert names == [
        "tcp_proxy client",
        "tcp_proxy upstream",
        "tcp_proxy-2 client",
        "tcp_proxy-2 upstream",
        "gateway client",
        "gateway upstream",
    ]
    assert third.endpoints == sockets.endpoints[-2:] == (third.client, third.upstream)
    assert (first.name, second.name, third.name) == ("tcp_proxy", "tcp_proxy-2", "gateway")
    assert third.settings == Settings(timeout=PATIENCE)


def test_a_proxy_says_where_it_is(sockets: Sockets) -> None:
    proxy = sockets.tcp_proxy(("127.0.0.1", 9))
    assert proxy.address == (proxy.host, proxy.port) == proxy.client.address
    assert (proxy.host, proxy.family) == ("127.0.0.1", "ipv4")
    assert proxy.url("redis") == f"redis://127.0.0.1:{proxy.port}"
    assert repr(proxy) == (
        f"<TCPProxy tcp 127.0.0.1:{proxy.port} to 127.0.0.1:9, 0 connections, open>"
    )
    proxy.close()
    assert repr(proxy).endswith("closed>")


def test_it_works_without_a_factory_and_without_pytest() -> None:
    with TCPProxy(("127.0.0.1", 9)) as proxy:
        assert [side.name for side in proxy.endpoints] == ["tcp_proxy client", "tcp_proxy upstream"]
        assert (proxy.problems, proxy.is_closed, proxy.transcript) == ((), False, ())
        proxy.check()
    assert proxy.is_closed
    assert proxy.client.is_closed
    assert proxy.upstream.is_closed


def test_a_connection_is_driven_by_the_proxy(line: Proxied) -> None:
    for conn, side in ((line.client_side, "client"), (line.upstream_side, "upstream")):
        with pytest.raises(
            SocketsError,
            match=rf"^tcp_proxy {side} connection 0 is driven by the proxy, so the test cannot "
            r"send\(\) on it; wait, assert and read the record, or have a tcp_server as "
            "the upstream, and use its connection$",
        ):
            conn.send(b"x")
        with pytest.raises(SocketsError, match="driven by the proxy"):
            conn.recv(1)


@pytest.mark.parametrize("plan", ["script", "serve", "on"])
def test_a_plan_for_the_proxy_is_refused(sockets: Sockets, plan: str) -> None:
    plans: dict[str, Any] = {
        "script": lambda client: client.script(),
        "serve": lambda client: client.serve(print),
        "on": lambda client: client.on(b"a", b"b"),
    }
    proxy = sockets.tcp_proxy(("127.0.0.1", 9))
    with pytest.raises(
        SocketsError,
        match=r"^tcp_proxy client is driven by the proxy, so a plan would never be played: make it "
        "for the upstream, or use tcp_server instead$",
    ):
        plans[plan](proxy.client)


# -- many


def test_the_connections_of_both_sides_belong_together(sockets: Sockets) -> None:
    number = 200
    echo = sockets.echo_server()
    proxy = sockets.tcp_proxy(echo)

    def talk(which: int) -> bytes:
        with plain_client(proxy.address) as client:
            client.sendall(b"%d " % which * 100)
            client.shutdown(socket.SHUT_WR)
            return read_to_eof(client)

    with Background(16) as pool:
        assert list(pool.map(talk, range(number))) == [b"%d " % i * 100 for i in range(number)]
    for side in (proxy.client, proxy.upstream):
        side.assert_connections(number)
        side.wait_closed(number, timeout=FOREVER)
        assert [conn.index for conn in side.connections] == list(range(number))
    for conn, other in zip(proxy.client.connections, proxy.upstream.connections, strict=True):
        assert conn.received == other.sent == other.received == conn.sent


# -- as fast as the slower side


@pytest.mark.parametrize("way", ["request", "reply"])
def test_nothing_is_read_from_one_side_while_the_other_does_not_read(
    line: Proxied, way: str
) -> None:
    sender, reader = (line.client, line.server) if way == "request" else (line.server, line.client)
    taken = stall(sender, line.proxy, CONTENT)
    assert taken < len(CONTENT)
    assert BOUND < max(line.queued) <= BOUND + LARGE_READ
    assert min(line.queued) == 0
    reader.sendall(b"the other direction goes on")
    assert sender.recv(100) == b"the other direction goes on"
    sender.shutdown(socket.SHUT_WR)
    assert read_to_eof(reader) == CONTENT[:taken]
    assert line.queued == (0, 0)


def test_a_delay_makes_the_way_long_and_not_narrow(sockets: Sockets) -> None:
    with proxied(sockets) as line, Background() as pool:
        line.proxy.fault(Delay(3600.0), direction="reply")
        sending = pool.submit(line.server.sendall, CONTENT)
        line.upstream_side.assert_received(CONTENT)
        sending.result()
        assert line.queued == (len(CONTENT), 0)
        assert line.client_side.sent == b""


def test_both_sides_may_be_full_and_read_later(line: Proxied) -> None:
    taken = [stall(sock, line.proxy, CONTENT) for sock in (line.client, line.server)]
    assert min(line.queued) > BOUND
    with Background() as pool:
        for sock in (line.client, line.server):
            sock.shutdown(socket.SHUT_WR)
        reading = [pool.submit(read_to_eof, sock) for sock in (line.server, line.client)]
        assert [read.result() for read in reading] == [CONTENT[:size] for size in taken]


def test_a_hundred_megabytes_each_way_are_passed_on_as_they_are(sockets: Sockets) -> None:
    size, most = 100 * 1000 * 1000, [0, 0]
    with proxied(sockets) as line, Background() as pool:
        streams = [line.client_side._stream, line.upstream_side._stream]

        def read(sock: socket.socket) -> str:
            digest, left = hashlib.sha256(), size
            while left:
                data = sock.recv(64 * 1024)
                digest.update(data)
                left -= len(data)
                for which, stream in enumerate(streams):
                    most[which] = max(most[which], stream.queued)
            return digest.hexdigest()

        content = (LARGE * (size // len(LARGE) + 1))[:size]
        socks = (line.client, line.server)
        reading = [pool.submit(read, sock) for sock in socks]
        sending = [pool.submit(sock.sendall, content) for sock in socks]
        whole = hashlib.sha256(content).hexdigest()
        assert [read.result() for read in reading] == [whole, whole]
        assert [sent.result() for sent in sending] == [None, None]
        assert max(most) <= BOUND + LARGE_READ
        assert line.proxy.client.received == content
        assert line.proxy.upstream.sent == content


# -- waiting for what was passed on


def test_wait_forwarded_looks_on_every_connection_and_in_one_direction(sockets: Sockets) -> None:
    with listening() as listener:
        proxy = sockets.tcp_proxy(listener.getsockname())
        with plain_client(proxy.address) as idle, plain_client(proxy.address) as client:
            with accept(listener) as first, accept(listener) as second:
                client.sendall(b"COM")
                proxy.wait_forwarded(b"OM", timeout=FOREVER)
                client.sendall(b"MIT;")
                proxy.wait_forwarded(b"COMMIT", timeout=FOREVER)
                for server in (first, second):
                    server.sendall(b"OK")
                proxy.wait_forwarded(b"OK", direction="reply", timeout=FOREVER)
                idle.sendall(b"more")
                idle.shutdown(socket.SHUT_WR)
                proxy.wait_forwarded(b"more", timeout=FOREVER)
                with pytest.raises(WaitTimeout) as caught:
                    proxy.wait_forwarded(b"COMMIT", direction="reply", timeout=0)
                assert str(caught.value) == (
                    "tcp_proxy: waited 0 s for the reply b'COMMIT' to be forwarded over "
                    "2 connections, forwarded so far:\n  #0 b'OK'\n  #1 b'OK'"
                )


def test_wait_forwarded_says_that_there_was_nothing(sockets: Sockets) -> None:
    proxy = sockets.tcp_proxy(sockets.silent_server())
    with pytest.raises(WaitTimeout) as caught:
        proxy.wait_forwarded(b"x", timeout=0.01)
    assert str(caught.value) == (
        "tcp_proxy: waited 0.01 s for the request b'x' to be forwarded over 0 connections, "
        "and nothing has been forwarded"
    )


def test_wait_forwarded_waits_for_a_connection_to_come(
    sockets: Sockets, armed: threading.Semaphore
) -> None:
    proxy = sockets.tcp_proxy(sockets.silent_server())
    with Background() as pool:
        waiting = pool.submit(proxy.wait_forwarded, b"late", timeout=FOREVER)
        assert armed.acquire(timeout=PATIENCE)
        with plain_client(proxy.address) as client:
            client.sendall(b"too late")
            assert waiting.result() is None


def test_wait_forwarded_rests_beside_a_connection_that_has_ended(
    sockets: Sockets, armed: threading.Semaphore
) -> None:
    proxy = sockets.tcp_proxy(sockets.echo_server())
    with plain_client(proxy.address) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    with plain_client(proxy.address) as client, Background() as pool:
        proxy.upstream.wait_closed(1, timeout=FOREVER)
        proxy.upstream.assert_connections(2)
        forget(armed)
        waiting = pool.submit(proxy.wait_forwarded, b"ping", timeout=FOREVER)
        assert armed.acquire(timeout=PATIENCE)
        for _ in range(10):
            proxy.client._sync()
        assert not armed.acquire(blocking=False)
        client.sendall(b"ping")
        assert waiting.result() is None


def test_wait_forwarded_is_over_with_the_proxy(
    sockets: Sockets, armed: threading.Semaphore
) -> None:
    proxy = sockets.tcp_proxy(sockets.silent_server())
    with Background() as pool:
        waiting = pool.submit(proxy.wait_forwarded, b"never", timeout=FOREVER)
        assert armed.acquire(timeout=PATIENCE)
        proxy.close()
        with pytest.raises(EndpointClosedError, match=r"^tcp_proxy upstream is closed: use it be"):
            waiting.result()


@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.usefixtures("forgiven")
def test_wait_forwarded_raises_a_problem_of_either_side(
    sockets: Sockets, armed: threading.Semaphore, side: str
) -> None:
    proxy = sockets.tcp_proxy(sockets.silent_server())
    with Background() as pool:
        waiting = pool.submit(proxy.wait_forwarded, b"never", timeout=FOREVER)
        assert armed.acquire(timeout=PATIENCE)
        getattr(proxy, side)._fail(RuntimeError("broken"))
        with pytest.raises(EndpointError, match="broken"):
            waiting.result()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_wait_forwarded_has_a_twin(sockets: Sockets, anyio_backend: str) -> None:
    proxy = sockets.tcp_proxy(sockets.echo_server())
    with plain_client(proxy.address) as client:
        client.sendall(b"ping")
        await proxy.aio.wait_forwarded(b"ping", timeout=FOREVER)
        await proxy.aio.wait_forwarded(b"ping", direction="reply", timeout=FOREVER)
        await proxy.upstream.aio.assert_received(b"ping")
        await proxy.client.aio.assert_connections(1)
        with pytest.raises(WaitTimeout, match="for the request b'pong' to be forwarded"):
            await proxy.aio.wait_forwarded(b"pong", timeout=0)


# -- bad input


def proxy_to(upstream: Any, **options: Any) -> Call:
    return lambda desk: desk.sockets.tcp_proxy(upstream, **options)


def wait(data: Any, **options: Any) -> Call:
    def call(desk: Desk) -> None:
        with TCPProxy(("127.0.0.1", 9)) as proxy:
            proxy.wait_forwarded(data, **options)

    return call


def before_datagrams(desk: Desk) -> None:
    with UDPProxy(desk.peer.address) as proxy:
        desk.sockets.tcp_proxy(proxy)  # type: ignore[arg-type]  # wrong on purpose


def before_itself(desk: Desk) -> None:
    with socket.socket() as sock:
        sock.bind((OWN_HOST, 0))
        port = sock.getsockname()[1]
    desk.sockets.tcp_proxy((OWN_HOST, port), host=OWN_HOST, port=port)


FORM = "upstream must be a (host, port) pair, an AF_UNIX path or a server: "
ITSELF = "is where the proxy itself listens: leave port= out for a free one"
WAY = "direction must be 'request' (from a client to the upstream) or 'reply' (back), not 'down'"
BAD: dict[str, Case] = {
    "none": (proxy_to(None), TypeError, FORM),
    "number": (proxy_to(5432), TypeError, "or an AF_UNIX path, not 5432"),
    "short": (proxy_to(("::1",)), TypeError, "not ('::1',)"),
    "host-number": (proxy_to((5, 80)), TypeError, "host must be an address or a name, not 5"),
    "host-unknown": (
        proxy_to(("no.such.host.invalid", 80)),
        ValueError,
        "upstream=('no.such.host.invalid', 80) cannot be resolved: ",
    ),
    "port-large": (proxy_to(("::1", 70000)), ValueError, "between 0 and 65535"),
    "port-none": (proxy_to(("::1", None)), TypeError, "a numeric string or a service name, not N"),
    "port-0": (proxy_to(("127.0.0.1", 0)), ValueError, "names no port: nobody can listen on port"),
    "text": (
        proxy_to("127.0.0.1:80"),
        ValueError,
        "upstream='127.0.0.1:80' would be an AF_UNIX path: write (host, port)",
    ),
    "url": (proxy_to("http://h/"), ValueError, "upstream='http://h/' would be an AF_UNIX path"),
    "path-long": (proxy_to("x" * 108), ValueError, "path is 108 bytes long"),
    "path-empty": (proxy_to(""), ValueError, "path='' names nothing"),
    "datagrams": (
        lambda desk: desk.sockets.tcp_proxy(desk.peer),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "upstream must be a server that accepts connections, not <UDPPeer udp 127.0.0.1:",
    ),
    "proxy-of-datagrams": (
        before_datagrams,
        TypeError,
        "upstream must be a server that accepts connections, not <UDPProxy udp 127.0.0.1:",
    ),
    "port-of-datagrams": (
        lambda desk: desk.sockets.tcp_proxy(desk.sockets.reserved_port(type=socket.SOCK_DGRAM)),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "upstream must be a server that accepts connections, not <ReservedPort udp 127.0.0.1:",
    ),
    "pair": (
        lambda desk: desk.sockets.tcp_proxy(SocketPair()),  # type: ignore[arg-type]  # wrong on purpose
        TypeError,
        "upstream must be a server that accepts connections, not <SocketPair",
    ),
    "itself": (before_itself, ValueError, ITSELF),
    "family-unix": (proxy_to(("::1", 9), family="unix"), ValueError, "its upstream can be an AF_"),
    "family-unknown": (proxy_to(("::1", 9), family="ipx"), ValueError, "family must be one of"),
    "port-taken": (
        lambda desk: desk.sockets.tcp_proxy(("::1", 9), port=desk.server.port),
        OSError,
        "is held by this process; leave port= out for a free one",
    ),
    "wait-text": (wait("x"), TypeError, "data must be bytes, not str 'x'; a socket carries bytes"),
    "wait-empty": (wait(b""), ValueError, "data=b'' has always been forwarded: name the bytes"),
    "wait-direction": (wait(b"x", direction="down"), ValueError, WAY),
    "wait-timeout": (wait(b"x", timeout=-1), ValueError, "-1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(sockets: Sockets, case: str) -> None:
    with open_desk(sockets) as desk:
        check(desk, BAD[case])


def test_a_closed_factory_opens_no_proxy(sockets: Sockets) -> None:
    sockets.close()
    with pytest.raises(EndpointClosedError, match="these sockets are closed"):
        sockets.tcp_proxy(("127.0.0.1", 9))


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_a_fault_of_requests_meets_what_came_before_the_upstream_was_there(
    sockets: Sockets, sent: int
) -> None:
    with listening() as listener:
        proxy = sockets.tcp_proxy(listener.getsockname())
        fault = proxy.fault(Close(), at=AfterSent(sent), direction="request")
        with held_up(proxy):
            client = socket.create_connection(proxy.address, timeout=PATIENCE)
            client.sendall(b"abc")
        with client, accept(listener) as server:
            assert read_to_eof(server) == b"abc"[:sent]
            assert fault.hits == 1
