import asyncio
import socket
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from pytest_sockets import (
    ChargenServer,
    DatagramPair,
    DatagramPeer,
    DiscardServer,
    EchoServer,
    Endpoint,
    EndpointClosedError,
    EndpointError,
    MismatchError,
    Settings,
    SilentServer,
    SocketPair,
    Sockets,
    StreamServer,
    TCPServer,
    UDPEchoServer,
    UDPPeer,
    UnixDatagramPeer,
    UnixServer,
)
from pytest_sockets._endpoints import registry
from stream_ends import OWN_HOST, plain_client

pytestmark = pytest.mark.timeout(120)

OPENED: dict[str, tuple[Callable[[Sockets], Endpoint], type[Endpoint]]] = {
    "tcp_server": (Sockets.tcp_server, TCPServer),
    "unix_server": (Sockets.unix_server, UnixServer),
    "echo_server": (Sockets.echo_server, EchoServer),
    "silent_server": (Sockets.silent_server, SilentServer),
    "discard_server": (Sockets.discard_server, DiscardServer),
    "chargen_server": (Sockets.chargen_server, ChargenServer),
    "stream_server": (Sockets.stream_server, StreamServer),
    "server": (lambda sockets: sockets.server(family="unix"), StreamServer),
    "udp_peer": (Sockets.udp_peer, UDPPeer),
    "udp_echo_server": (Sockets.udp_echo_server, UDPEchoServer),
    "unix_datagram_peer": (Sockets.unix_datagram_peer, UnixDatagramPeer),
    "unix_socket_pair": (Sockets.unix_socket_pair, SocketPair),
    "tcp_socket_pair": (Sockets.tcp_socket_pair, SocketPair),
    "socket_pair": (Sockets.socket_pair, SocketPair),
}


def test_every_method_of_the_factory_is_among_those_tested() -> None:
    methods = {
        name
        for owner in Sockets.__mro__[:-1]  # without `object`
        for name, value in vars(owner).items()
        if callable(value) and not name.startswith("_")
    }
    others = {"assert_order", "check", "close", "connect", "gate", "require", "serve_protocol"}
    addresses = {"blackhole_address", "refused_address", "reserved_port"}  # test_addresses.py
    proxies = {"tcp_proxy", "udp_proxy"}  # test_proxy.py, test_udp_proxy.py
    assert methods - others - addresses - proxies == set(OPENED)


def test_who_serves_a_protocol_is_called_a_server(sockets: Sockets) -> None:
    opened = [sockets.serve_protocol(asyncio.Protocol) for _ in range(2)]
    assert [server.name for server in opened] == ["protocol_server", "protocol_server-2"]
    assert opened == list(sockets.endpoints)


@pytest.mark.parametrize("name", OPENED)
def test_endpoints_have_the_methods_name_and_a_number_from_the_second_on(
    sockets: Sockets, name: str
) -> None:
    opener, kind = OPENED[name]
    opened = [opener(sockets) for _ in range(3)]
    assert [type(endpoint) for endpoint in opened] == [kind] * 3
    assert [endpoint.name for endpoint in opened] == [name, f"{name}-2", f"{name}-3"]
    assert sockets.endpoints == tuple(opened)
    assert {endpoint.settings for endpoint in opened} == {sockets.tcp_server().settings}


def test_a_given_name_is_used_and_takes_no_number(sockets: Sockets) -> None:
    primary = sockets.tcp_server(name="primary")
    first, second = sockets.tcp_server(), sockets.tcp_server()
    clients = [sockets.connect(primary.address) for _ in range(2)]
    clients.append(sockets.connect(primary.address, name="late"))
    assert [primary.name, first.name, second.name] == ["primary", "tcp_server", "tcp_server-2"]
    assert [conn.endpoint.name for conn in clients] == ["raw_client", "raw_client-2", "late"]
    assert {event.endpoint for event in primary.transcript} == {"primary"}


@pytest.mark.parametrize(
    ("family", "other"), [("ipv4", "unix"), ("unix", "ipv4"), ("ipv6", "ipv4")]
)
def test_the_factorys_settings_and_family_are_those_of_its_endpoints(
    family: str, other: str
) -> None:
    with Sockets(Settings(timeout=7, seed=42), family=family) as sockets:
        assert sockets.seed == 42
        opened: list[Any] = [
            getattr(sockets, f"{kind}_server")()
            for kind in ("echo", "silent", "discard", "chargen", "stream")
        ]
        if family != "unix":
            opened += [sockets.tcp_server(), sockets.udp_peer(), sockets.udp_echo_server()]
        assert {endpoint.family for endpoint in opened} == {family}
        assert {endpoint.settings.timeout for endpoint in opened} == {7}
        assert repr(sockets) == f"<Sockets {len(opened)} endpoints>"
        assert sockets.echo_server(family=other).family == other
        assert sockets.echo_server(host="127.0.0.1").family == "ipv4"
        assert sockets.stream_server(path=f"\0{uuid.uuid4()}").family == "unix"
        assert sockets.unix_server().family == "unix"


def test_closing_the_factory_closes_all_that_it_opened(sockets: Sockets) -> None:
    opened = [opener(sockets) for opener, _ in OPENED.values()]
    server = sockets.tcp_server(host=OWN_HOST)
    client = sockets.connect(server.address)
    opened[0].close()  # what is closed already is no error
    sockets.close()
    sockets.close()
    assert all(endpoint.is_closed for endpoint in sockets.endpoints)
    assert client.is_closed
    with pytest.raises(ConnectionRefusedError):
        plain_client(server.address)


def test_a_closed_factory_opens_nothing(sockets: Sockets) -> None:
    server = sockets.tcp_server()
    sockets.close()
    for opening in (sockets.echo_server, sockets.udp_peer, lambda: sockets.connect(server.address)):
        with pytest.raises(EndpointClosedError, match="these sockets are closed"):
            opening()


def test_an_endpoint_that_fails_to_close_does_not_keep_the_others_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sockets = Sockets()
    first, second, third = (sockets.unix_server() for _ in range(3))
    with monkeypatch.context() as patch:
        patch.setattr(second, "close", lambda: second.no_such_method())  # type: ignore[attr-defined]  # fails on purpose
        with pytest.raises(AttributeError, match="no_such_method"):
            sockets.close()
    assert [end.is_closed for end in (first, second, third)] == [True, False, True]
    sockets.close()
    assert second.is_closed


# -- problems


def failing(*errors: str) -> Callable[[Sockets], list[TCPServer]]:
    """Return what opens a server for each error, and fails them in the order of the errors."""

    def fail(sockets: Sockets) -> list[TCPServer]:
        servers = {text: sockets.tcp_server() for text in sorted(errors)}
        for text in errors:
            servers[text]._fail(RuntimeError(text))
        return [*servers.values()]

    return fail


@pytest.mark.usefixtures("unwatched")
def test_leaving_the_factory_raises_the_earliest_problem_with_the_others_as_notes() -> None:
    with pytest.raises(EndpointError, match="tcp_server-2 failed on its own side: b") as caught:
        with Sockets() as sockets:
            failing("b", "c", "a")(sockets)
    assert caught.value.__notes__ == [
        "also: tcp_server-3 failed on its own side: c",
        "also: tcp_server failed on its own side: a",
    ]
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert all(endpoint.is_closed for endpoint in sockets.endpoints)


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("kind", [Sockets, TCPServer, UDPPeer, SocketPair])
def test_a_problem_does_not_hide_what_the_body_raised(kind: Callable[[], Any]) -> None:
    opened = kind()
    endpoint = opened.tcp_server() if kind is Sockets else opened

    def body() -> None:
        with opened:
            endpoint._fail(RuntimeError("on our side"))
            raise KeyError("from the body")

    with pytest.raises(KeyError, match="from the body"):
        body()
    assert endpoint.is_closed
    assert [str(problem) for problem in endpoint.problems] == [
        f"{endpoint.name} failed on its own side: on our side"
    ]


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("kind", [TCPServer, UDPPeer, SocketPair, DatagramPair])
def test_leaving_an_endpoint_raises_its_problem_and_closes_it(kind: type[Endpoint]) -> None:
    with pytest.raises(EndpointError, match="failed on its own side: on our side"):
        with kind() as endpoint:
            endpoint._fail(RuntimeError("on our side"))
    assert endpoint.is_closed
    with kind() as endpoint:
        endpoint.check()
    assert endpoint.problems == ()


@pytest.mark.usefixtures("unwatched")
def test_check_raises_problems_while_the_body_runs() -> None:
    with closing(Sockets()) as sockets:
        sockets.check()
        first, second = failing("a", "b")(sockets)
        for checked in (sockets, first):
            with pytest.raises(EndpointError, match="tcp_server failed on its own side: a"):
                checked.check()
        with pytest.raises(EndpointError, match="tcp_server-2 failed on its own side: b"):
            second.check()
        assert [event.kind for event in sockets.transcript] == ["problem", "problem"]


# -- one order


@pytest.fixture
def conversation(sockets: Sockets) -> Sockets:
    server = sockets.tcp_server()
    client = sockets.connect(server.address)
    conn = server.accept()
    for number in range(20):
        client.send(b"ping %d;" % number)
        conn.expect(b"ping %d;" % number)
        conn.send(b"pong %d;" % number)
        client.expect(b"pong %d;" % number)
    return sockets


def test_the_transcript_is_in_one_order_over_all_endpoints(conversation: Sockets) -> None:
    events = conversation.transcript
    times = [event.time for event in events]
    assert times == sorted(set(times))
    told = [(event.endpoint, event.kind, event.data) for event in events if event.data]
    assert told == [
        entry
        for number in range(20)
        for entry in (
            ("raw_client", "sent", b"ping %d;" % number),
            ("tcp_server", "received", b"ping %d;" % number),
            ("tcp_server", "sent", b"pong %d;" % number),
            ("raw_client", "received", b"pong %d;" % number),
        )
    ]


def test_datagrams_and_streams_are_in_one_order(sockets: Sockets) -> None:
    peer, server = sockets.udp_peer(), sockets.tcp_server()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        with plain_client(server.address) as client:
            for number in range(10):
                client.sendall(b"stream %d;" % number)
                server.assert_received(contains=b"stream %d;" % number)
                sender.sendto(b"datagram %d" % number, peer.address)
                peer.expect(b"datagram %d" % number)
    heard = [event.data for event in sockets.transcript if event.kind == "received"]
    rounds = [(b"stream %d;" % number, b"datagram %d" % number) for number in range(10)]
    assert heard == [content for contents in rounds for content in contents]
    sockets.assert_order(*heard)


def test_assert_order_compares_moments_given_as_bytes_or_events(conversation: Sockets) -> None:
    conversation.assert_order(b"ping 0;", b"pong 0;", b"ping 1;", b"pong 19;")
    first, *_, last = conversation.transcript
    conversation.assert_order(first, b"pong 3", last)
    with pytest.raises(MismatchError, match=r"^b'pong 0;' came \S+ s after b'ping 0;', expected"):
        conversation.assert_order(b"pong 0;", b"ping 0;")
    with pytest.raises(MismatchError, match=r"^received on raw_client #0 came .* after b'ping 0;'"):
        conversation.assert_order(last, b"ping 0;")
    with pytest.raises(MismatchError, match="b'ping 20' was never received or sent on any endpoin"):
        conversation.assert_order(b"ping 0", b"ping 20")


def test_bytes_stand_for_the_moment_when_they_had_come_as_a_whole(sockets: Sockets) -> None:
    first, second = sockets.tcp_server(), sockets.tcp_server()
    with plain_client(first.address) as one, plain_client(second.address) as two:
        one.sendall(b"he")
        first.assert_received(b"he")
        two.sendall(b"whole")
        second.assert_received(b"whole")
        one.sendall(b"llo")
        first.assert_received(b"hello")
    sockets.assert_order(b"he", b"whole", b"hello")
    with pytest.raises(MismatchError):
        sockets.assert_order(b"hello", b"whole")


def test_assert_order_sees_everything_that_was_sent_before_it(sockets: Sockets) -> None:
    server, peer = sockets.tcp_server(), sockets.udp_peer()
    with plain_client(server.address) as client:
        client.sendall(b"stream")
        server.assert_received(b"stream")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"datagram", peer.address)
        sockets.assert_order(b"stream", b"datagram")


def test_a_datagram_peer_is_what_the_factory_opens_for_other_types(sockets: Sockets) -> None:
    peer = sockets.server(family="ipv4", type=socket.SOCK_DGRAM)
    assert isinstance(peer, DatagramPeer)
    assert peer.name == "server"


PROXIED: dict[str, Callable[[Sockets], object]] = {
    "tcp_proxy client": lambda sockets: sockets.tcp_proxy(("127.0.0.1", 9)),
    "tcp_proxy upstream": lambda sockets: sockets.tcp_proxy(("127.0.0.1", 9)),
    "udp_proxy client": lambda sockets: sockets.udp_proxy(("127.0.0.1", 9)),
    "udp_proxy upstream": lambda sockets: sockets.udp_proxy(("127.0.0.1", 9)),
    "serve_protocol": lambda sockets: sockets.serve_protocol(asyncio.Protocol),
    **{name: opener for name, (opener, _) in OPENED.items()},
}


@pytest.mark.parametrize("name", PROXIED)
def test_an_endpoint_that_an_observer_refuses_is_closed(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[Endpoint] = []

    def refuse(endpoint: Endpoint) -> bool:
        seen.append(endpoint)
        if " " not in name or endpoint.name == name:
            raise LookupError(endpoint.name)
        return True

    monkeypatch.setattr(registry, "observers", [refuse])
    before = registry.open_endpoints()
    with pytest.raises(LookupError):
        PROXIED[name](sockets)
    assert seen
    assert all(endpoint.is_closed for endpoint in seen)
    assert registry.open_endpoints() == before
