from __future__ import annotations

import asyncio
import errno
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from proxied import open_sockets
from pytest_sockets import (
    EndpointClosedError,
    EndpointError,
    Settings,
    Sockets,
    SocketsError,
    UDPPeer,
    UDPProxy,
    UnsupportedError,
    WaitTimeout,
)
from pytest_sockets._endpoints import registry, udp_proxy_sides
from pytest_sockets._endpoints.problems import gather
from pytest_sockets._endpoints.two_sides import Way
from pytest_sockets.faults import (
    AfterReceived,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Effect,
    Reset,
    Truncate,
    Unreachable,
    WrongSource,
)
from stream_ends import FOREVER, OWN_HOST, PATIENCE, Background, family_of

FAMILIES = ["ipv4", "ipv6"]
WAYS: tuple[Way, Way] = ("request", "reply")

pytestmark = pytest.mark.timeout(120)


def plain(address: Any) -> socket.socket:
    """Return a plain socket connected to an address."""
    sock = socket.socket(family_of(address), socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    return sock


@dataclass
class Line:
    """A plain client and a plain server with a proxy between."""

    client: socket.socket
    proxy: UDPProxy
    server: socket.socket

    def request(self, data: bytes) -> Any:
        """Send a request through, and return where it came from."""
        self.client.send(data)
        came, source = self.server.recvfrom(100_000)
        assert came == data
        return source


@pytest.fixture(params=FAMILIES)
def line(request: pytest.FixtureRequest, sockets: Sockets) -> Iterator[Line]:
    host = {"ipv4": OWN_HOST, "ipv6": "::1"}[request.param]  # where nobody takes a closed port
    with socket.socket(family_of((host, 0)), socket.SOCK_DGRAM) as server:
        server.settimeout(PATIENCE)
        server.bind((host, 0))
        proxy = sockets.udp_proxy(server.getsockname(), host=host, name="proxy")
        with plain(proxy.address) as client:
            yield Line(client, proxy, server)


# -- passing on


@pytest.mark.parametrize("upstream", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_passed_on_and_back(sockets: Sockets, family: str, upstream: str) -> None:
    echo = sockets.udp_echo_server(family=upstream)
    proxy = sockets.udp_proxy(echo, family=family)
    assert proxy.family == family
    contents = [b"one", b"", bytes(65_507), b"two"]
    with plain(proxy.address) as client:
        for content in contents:
            client.send(content)
            assert client.recv(100_000) == content
    assert echo.received == contents
    for side in (proxy.client, proxy.upstream):
        assert side.received == side.sent == contents


def test_each_client_has_its_own_way_there_and_back(line: Line) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(plain(line.proxy.address)) for _ in range(10)]
        sources = []
        for number, client in enumerate(clients):
            client.send(b"%d" % number)
            sources.append(line.server.recvfrom(99)[1])
        assert len(set(sources)) == len(clients)
        for number, client in enumerate(clients):
            client.send(b"again")
            assert line.server.recvfrom(99) == (b"again", sources[number])
        for number in reversed(range(len(clients))):
            line.server.sendto(b"for %d" % number, sources[number])
        assert [client.recv(99) for client in clients] == [b"for %d" % n for n in range(10)]


def test_a_reply_finds_its_way_at_any_time_and_so_do_several(line: Line) -> None:
    source = line.request(b"subscribe")
    for number in range(20):
        line.server.sendto(b"%d" % number, source)
        assert line.client.recv(99) == b"%d" % number


def test_nobody_but_the_upstream_can_answer(line: Line) -> None:
    source = line.request(b"who?")
    with socket.socket(line.server.family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"me", source)
    line.server.sendto(b"the server", source)
    assert line.client.recv(99) == b"the server"


def test_a_proxy_can_be_the_upstream(sockets: Sockets) -> None:
    echo = sockets.udp_echo_server()
    first = sockets.udp_proxy(sockets.udp_proxy(echo))
    with plain(first.address) as client:
        client.send(b"far")
        assert client.recv(99) == b"far"
    names = [endpoint.name for endpoint in sockets.endpoints]
    assert names == [
        "udp_echo_server",
        "udp_proxy client",
        "udp_proxy upstream",
        "udp_proxy-2 client",
        "udp_proxy-2 upstream",
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_names_addresses_one_of_the_same_family_is_taken(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    def both(host: str, port: int, *_: object) -> list[Any]:
        assert host == "somewhere"
        found = [(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))]
        return [(number, socket.SOCK_DGRAM, 17, "", target) for number, target in found]

    monkeypatch.setattr("_socket.getaddrinfo", both)
    proxy = sockets.udp_proxy(("somewhere", "5300"), family=family)
    expected = {"ipv4": "to 127.0.0.1:5300,", "ipv6": "to [::1]:5300,"}[family]
    assert expected in repr(proxy)


# -- an upstream that is not there


def test_a_client_sees_nothing_of_an_upstream_that_refuses(line: Line) -> None:
    line.server.close()
    for data in (b"one", b"two", b"three"):
        line.client.send(data)
    line.proxy.wait_forwarded(b"three")
    where = f"for {line.client.getsockname()[0]}".replace("::1", "[::1]")
    notes = [event.note for event in line.proxy.transcript if event.kind == "note"]
    assert len(notes) == 3
    assert notes[0].startswith(f"refused a datagram {where}:")
    assert notes[0].endswith(": Connection refused")
    assert line.proxy.upstream.sent == [b"one", b"two", b"three"]
    line.client.setblocking(False)
    with pytest.raises(BlockingIOError):
        line.client.recv(99)
    assert line.proxy.problems == ()


def test_the_upstream_may_come_later(line: Line) -> None:
    address = line.server.getsockname()
    line.server.close()
    line.client.send(b"too soon")
    line.proxy.wait_forwarded(b"soon")
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as server:
        server.settimeout(PATIENCE)
        server.bind(address)
        line.client.send(b"there?")
        data, source = server.recvfrom(99)
        assert data == b"there?"
        server.sendto(b"yes", source)
        assert line.client.recv(99) == b"yes"


def test_the_refusal_of_one_datagram_is_not_the_loss_of_the_next(line: Line) -> None:
    address = line.server.getsockname()
    client = line.client.getsockname()[:2]
    with line.proxy.upstream._lock:  # nobody reads meanwhile, so the next send meets the refusal
        line.server.close()
        line.proxy._upstream.forward(b"refused", client)
        with socket.socket(line.client.family, socket.SOCK_DGRAM) as server:
            server.settimeout(PATIENCE)
            server.bind(address)
            line.proxy._upstream.forward(b"there", client)
            assert server.recv(99) == b"there"
    assert [event.kind for event in line.proxy.upstream.transcript] == ["sent", "note", "sent"]


def test_an_upstream_without_a_route_is_told(sockets: Sockets) -> None:
    # A socket that must not broadcast cannot connect to such an address (ip(7): EACCES).
    proxy = sockets.udp_proxy(("255.255.255.255", 9))
    with plain(proxy.address) as client:
        client.send(b"anybody?")
        proxy.client.wait_datagrams(1)
        name = "{}:{}".format(*client.getsockname())
    (note,) = [event.note for event in proxy.transcript if event.kind == "note"]
    assert note == f"not reached for {name}: Permission denied"
    assert proxy.problems == ()


def test_a_datagram_too_long_for_the_other_side_is_lost(sockets: Sockets) -> None:
    # IPv6 carries 20 bytes more: its header is not part of the length.
    upstream = sockets.udp_peer()
    proxy = sockets.udp_proxy(upstream, family="ipv6", name="proxy")
    with plain(proxy.address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.send(bytes(65_527))
        client.send(b"short")
        upstream.assert_received(b"short")
    (note,) = [event.note for event in proxy.transcript if event.kind == "note"]
    where = "{}:{}".format(*upstream.address)
    assert note == f"lost: a datagram (65,527 bytes) to {where}: Message too long"


@pytest.mark.usefixtures("forgiven")
def test_no_more_descriptors_are_a_problem(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    proxy = sockets.udp_proxy(("127.0.0.1", 9), name="proxy")
    monkeypatch.setattr(udp_proxy_sides, "new_socket", no_more)
    text = r"proxy client failed on its own side: .*Too many open files"
    with plain(proxy.address) as client:
        client.send(b"one")
        with pytest.raises(EndpointError, match=text):
            proxy.wait_forwarded(b"one", timeout=FOREVER)
    assert len(proxy.problems) == 1
    with pytest.raises(EndpointError, match=text):
        proxy.check()


# -- faults


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize(
    ("effect", "came"),
    [
        (Drop(), []),
        (Duplicate(), [b"abcd", b"abcd"]),
        (Truncate(2), [b"ab"]),
        (Delay(0.001), [b"abcd"]),
    ],
    ids=repr,
)
def test_a_fault_acts_in_its_direction_only(
    line: Line, effect: Effect, came: list[bytes], direction: Way
) -> None:
    source = line.request(b"before")
    fault = line.proxy.fault(effect, direction=direction)
    ends = {"request": (line.client, line.server), "reply": (line.server, line.client)}
    sender, receiver = ends.pop(direction)
    if direction == "request":
        sender.send(b"abcd")
    else:
        sender.sendto(b"abcd", source)
    fault.wait_hit()
    assert [receiver.recv(99) for _ in came] == came
    fault.lift()
    line.server.sendto(b"after", source)
    assert line.client.recv(99) == b"after"
    line.request(b"after")
    assert fault.hits == 1


def test_replies_are_what_a_fault_is_about_if_nothing_is_said(line: Line) -> None:
    line.proxy.fault(Truncate(1), at=AfterReceived(b"second"))
    for data, reply in ((b"first", b"one"), (b"second", b"t")):
        line.server.sendto({b"first": b"one", b"second": b"two"}[data], line.request(data))
        assert line.client.recv(99) == reply


def test_a_fault_is_there_for_clients_that_come_later(line: Line) -> None:
    line.proxy.fault(WrongSource(), direction="request")
    source = line.request(b"one")
    (event,) = [event for event in line.proxy.upstream.transcript if event.kind == "sent"]
    where = "{}:{}".format(*source[:2]).replace("::1", "[::1]")
    assert event.note.endswith(f"  from {where}")
    with plain(line.proxy.address) as other:
        other.send(b"two")
        assert line.server.recvfrom(99)[0] == b"two"
    assert [event.kind for event in line.proxy.upstream.transcript] == ["fault", "sent"] * 2


def test_clients_can_be_refused(line: Line) -> None:
    line.request(b"before")
    with line.proxy.fault(Unreachable()):
        line.client.send(b"lost")
        with pytest.raises(ConnectionRefusedError):
            line.client.recv(99)
    line.request(b"after")
    assert line.proxy.client.received == [b"before", b"after"]


def test_a_fault_that_nothing_met_is_a_problem_of_its_side() -> None:
    with UDPProxy(("127.0.0.1", 9), name="proxy") as proxy:
        proxy.fault(Drop())
        proxy.fault(Corrupt(), direction="request", times=1)
        texts = [str(problem.error) for problem in gather(proxy.endpoints)]
        proxy.fault(Drop(), must_hit=False)
    assert texts == [
        "proxy client: the fault Drop() met nothing: 0 datagrams sent, 0 received; "
        "must_hit=False allows it",
        "proxy upstream: the fault Corrupt() met nothing: 0 datagrams sent, 0 received; "
        "must_hit=False allows it",
    ]


# -- waiting


def test_forwarded_is_what_the_kernel_has_taken(line: Line) -> None:
    line.proxy.fault(Drop(), direction="request", times=1)
    line.client.send(b"one")
    line.client.send(b"two")
    line.client.send(b"three")
    line.proxy.wait_forwarded(b"hre")
    line.proxy.wait_forwarded(b"two", timeout=0)
    with pytest.raises(WaitTimeout) as caught:
        line.proxy.wait_forwarded(b"one", timeout=0)
    assert str(caught.value) == (
        "proxy: waited 0 s for a request with b'one' to be forwarded, these were:\n"
        "  0: b'two'\n  1: b'three'"
    )
    with pytest.raises(WaitTimeout, match=r"a reply with b'two' to be forwarded, and none was$"):
        line.proxy.wait_forwarded(b"two", direction="reply", timeout=0)


def test_two_datagrams_are_not_one(line: Line) -> None:
    for number in range(10):
        line.request(b"%d" % number)
    with pytest.raises(WaitTimeout, match=r"(?s)  0: b'0'.*  7: b'7'\n  … and 2 more$"):
        line.proxy.wait_forwarded(b"12", timeout=0)


def test_waiting_ends_with_what_it_waits_for(line: Line, armed: threading.Semaphore) -> None:
    async def back() -> None:
        await line.proxy.aio.wait_forwarded(b"back", direction="reply")

    with Background() as pool:
        there = pool.submit(line.proxy.wait_forwarded, b"last", timeout=FOREVER)
        armed.acquire()
        for data in (b"one", b"two", b"last"):
            source = line.request(data)
        there.result()
        waiting = pool.submit(asyncio.run, back())
        armed.acquire()
        line.server.sendto(b"back", source)
        waiting.result()


def test_closing_either_side_closes_both_and_ends_a_wait(
    line: Line, armed: threading.Semaphore
) -> None:
    line.request(b"kept")
    with Background() as pool:
        waits = [
            pool.submit(line.proxy.wait_forwarded, b"x", direction=direction, timeout=FOREVER)
            for direction in WAYS
        ]
        for _ in waits:
            armed.acquire()
        line.proxy.upstream.close()
        for wait in waits:
            with pytest.raises(EndpointClosedError):
                wait.result()
    assert line.proxy.is_closed
    assert line.proxy.client.is_closed
    assert line.proxy.client.received == line.proxy.upstream.sent == [b"kept"]
    line.proxy.wait_forwarded(b"kept")
    with socket.socket(line.client.family, socket.SOCK_DGRAM) as other:
        other.bind(line.proxy.address)


def test_closing_the_clients_side_closes_both(line: Line) -> None:
    before = open_sockets()
    line.request(b"one")
    (opened,) = open_sockets() - before
    line.proxy.client.close()
    assert line.proxy.upstream.is_closed
    assert opened not in open_sockets()


# -- the whole


def test_both_sides_are_reported_the_clients_first(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(registry, "observers", [lambda endpoint: opened.append(endpoint.name)])
    with UDPProxy(("127.0.0.1", 9), name="proxy"):
        assert opened == ["proxy client", "proxy upstream"]


def test_the_transcript_has_both_sides_in_order(line: Line) -> None:
    source = line.request(b"ask")
    line.server.sendto(b"answer", source)
    assert line.client.recv(99) == b"answer"
    name = line.client.getsockname()[:2]
    server = line.server.getsockname()[:2]
    beside = f"for [{name[0]}]:{name[1]}" if ":" in name[0] else f"for {name[0]}:{name[1]}"
    events = [
        (event.endpoint, event.kind, event.data, event.peer, event.note)
        for event in line.proxy.transcript
    ]
    assert events == [
        ("proxy client", "received", b"ask", name, ""),
        ("proxy upstream", "sent", b"ask", server, beside),
        ("proxy upstream", "received", b"answer", server, beside),
        ("proxy client", "sent", b"answer", name, ""),
    ]


def test_it_closes_itself_and_tells_what_it_is() -> None:
    with UDPProxy(("127.0.0.1", 9), settings=Settings(timeout=3)) as proxy:
        assert proxy.settings.timeout == 3
        assert proxy.url("dns") == f"dns://127.0.0.1:{proxy.port}"
        opened = repr(proxy)
    assert re.fullmatch(
        r"<UDPProxy udp 127\.0\.0\.1:\d+ to 127\.0\.0\.1:9, 0 datagrams received, 0 sent, open>",
        opened,
    )
    assert repr(proxy) == opened.replace("open", "closed")
    proxy.close()


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("error", [None, KeyError("the body's own")])
def test_it_raises_problems_only_where_the_body_did_not(error: Exception | None) -> None:
    proxies: list[UDPProxy] = []

    def body() -> None:
        with UDPProxy(("127.0.0.1", 9)) as proxy:
            proxies.append(proxy)
            proxy.endpoints[1]._fail(ValueError("first"))
            proxy.endpoints[0]._fail(ValueError("second"))
            if error is not None:
                raise error

    with pytest.raises((EndpointError, KeyError), match="the body" if error else "first"):
        body()
    (proxy,) = proxies
    assert [str(problem)[-6:] for problem in proxy.problems] == [" first", "second"]
    assert proxy.is_closed


# -- what cannot be had


@pytest.mark.parametrize(
    ("upstream", "kind", "text"),
    [
        (5, TypeError, "upstream must be a (host, port) pair or a UDP peer, not 5"),
        ("ab", TypeError, "upstream must be a (host, port) pair or a UDP peer, not 'ab'"),
        (("h",), TypeError, "upstream must be a (host, port) pair or a UDP peer, not ('h',)"),
        ((5, 5), TypeError, "host must be an address or a name, not 5"),
        (("127.0.0.1", 0), ValueError, "names no port: nobody can be at port 0"),
        (("127.0.0.1", 70_000), ValueError, "port must be between 0 and 65535"),
        (("no.such.invalid", 9), ValueError, "upstream=('no.such.invalid', 9) cannot be resol"),
    ],
)
def test_what_is_no_upstream_is_refused(
    sockets: Sockets, upstream: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        sockets.udp_proxy(upstream)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert sockets.endpoints == ()


def test_an_endpoint_that_is_no_udp_peer_is_refused(sockets: Sockets) -> None:
    for other in (sockets.tcp_server(), sockets.unix_datagram_peer(), sockets.unix_socket_pair()):
        with pytest.raises(TypeError, match=r"upstream must be a .* pair or a UDP peer, not <"):
            sockets.udp_proxy(other)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("family", "text"),
    [("unix", "cannot have family='unix'"), ("dual", "open two peers"), ("ipv5", "ipv4, ipv6")],
)
def test_a_family_that_it_cannot_have_is_refused(sockets: Sockets, family: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sockets.udp_proxy(("127.0.0.1", 9), family=family)


def test_it_cannot_be_its_own_upstream(sockets: Sockets) -> None:
    with UDPPeer(host=OWN_HOST) as peer:
        host, port = peer.address
    with pytest.raises(ValueError, match="is where the proxy itself is: leave port= out"):
        sockets.udp_proxy((host, port), host=host, port=port)
    with UDPPeer(host=host, port=port):  # it has let go of the port
        pass


def test_nobody_else_sends_on_its_sides(line: Line) -> None:
    line.request(b"one")
    for side in line.proxy.endpoints:
        with pytest.raises(SocketsError, match=f"{side.name} is driven by the proxy, which sends"):
            side.send(b"x")
    assert isinstance(line.proxy.client, UDPPeer)
    with pytest.raises(SocketsError, match="proxy client is driven by the proxy, so a rule would"):
        line.proxy.client.on(b"x", b"y")


def test_what_makes_no_sense_is_refused(line: Line) -> None:
    proxy = line.proxy
    with pytest.raises(ValueError, match=r"direction must be 'request' .* or 'reply' .*, not 'up'"):
        proxy.fault(Drop(), direction="up")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"direction must be 'request' .* or 'reply' .*, not 'up'"):
        proxy.wait_forwarded(b"x", direction="up")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="b'' has always been forwarded"):
        proxy.wait_forwarded(b"")
    with pytest.raises(
        ValueError, match=r"proxy client cannot have Reset\(\): that is for streams"
    ):
        proxy.fault(Reset())
    with pytest.raises(UnsupportedError, match="it is the upstream's port that would have to refu"):
        proxy.fault(Unreachable(), direction="request")
    for side in proxy.endpoints:
        with pytest.raises(UnsupportedError, match=r"recv_fds needs AF_UNIX"):
            side.recv_fds()
        with pytest.raises(UnsupportedError, match=r"send_fds needs AF_UNIX"):
            side.send_fds(b"x", [0])
    proxy.close()
    with pytest.raises(EndpointClosedError, match="proxy client is closed"):
        proxy.fault(Drop())
