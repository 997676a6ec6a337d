import re
import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from pytest_sockets import Connection, MismatchError, Sockets, TCPServer, WaitTimeout
from stream_ends import FOREVER, Background, Ends, abort, plain_client

PAYLOAD = b"HELLO\r\nWORLD"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["server", "connection"])
def subject(
    request: pytest.FixtureRequest, tcp_server: TCPServer, client: socket.socket
) -> TCPServer | Connection:
    return tcp_server if request.param == "server" else tcp_server.accept()


@pytest.fixture
def tcp_server(sockets: Sockets) -> TCPServer:
    return sockets.tcp_server()


@pytest.fixture
def client(tcp_server: TCPServer) -> Iterator[socket.socket]:
    with plain_client(tcp_server.address) as client:
        yield client


# -- the outcome does not depend on how the stream is cut


WRONG = b"HELLO\r\nWXRLD"
ORDERS = ["send, send, assert", "send, assert, send", "assert, send, send"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("content", [PAYLOAD, WRONG], ids=["right", "wrong"])
@pytest.mark.parametrize("cut", range(len(PAYLOAD) + 1))
def test_the_outcome_is_the_same_wherever_the_stream_is_cut(
    subject: TCPServer | Connection, client: socket.socket, cut: int, content: bytes, order: str
) -> None:
    with Background() as pool:
        steps: dict[str, list[Callable[[], Any]]] = {
            "send": [lambda: client.sendall(content[:cut]), lambda: client.sendall(content[cut:])],
            "assert": [lambda: pool.submit(subject.assert_received, PAYLOAD, timeout=FOREVER)],
        }
        done = {step: steps[step].pop(0)() for step in order.split(", ")}
        error = done["assert"].exception()
    if content == PAYLOAD:
        assert error is None
    else:
        assert isinstance(error, MismatchError)
        assert "first difference at byte 8: expected 0x4f 'O', received 0x58 'X'" in str(error)


def test_an_assertion_sees_everything_that_was_sent_before_it(ends: Ends) -> None:
    for number in range(1, 301):
        ends.peer.sendall(b"0123456789")
        ends.conn.assert_received(b"0123456789" * number, timeout=0)
    assert len(ends.conn.received) == 3000
    ends.peer.sendall(b"x")
    assert ends.conn.received.endswith(b"9x")


def test_an_assertion_does_not_look_before_all_of_that_has_come(ends: Ends) -> None:
    for number in range(100):
        ends.peer.sendall(b"x")
        with pytest.raises(MismatchError, match="expected nothing more, received 0x78 'x'"):
            ends.conn.assert_received(b"x" * number, timeout=FOREVER)


# -- it fails as soon as the claim can no longer become true

Act = Callable[[TCPServer, socket.socket], object]


def _from_peer(data: bytes, end: Callable[[socket.socket], object] = lambda _: None) -> Act:
    def act(server: TCPServer, client: socket.socket) -> None:
        client.sendall(data)
        end(client)

    return act


def _from_us(data: bytes, end: Callable[[Connection], object] = lambda _: None) -> Act:
    def act(server: TCPServer, client: socket.socket) -> None:
        server.wait_connections(1)
        server.connections[0].send(data)
        end(server.connections[0])

    return act


def _eof(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


SOON: dict[str, tuple[str, dict[str, Any], Act, str]] = {
    "first byte": ("received", {"expected": b"ab"}, _from_peer(b"x"), "byte 0: expected 0x61"),
    "later byte": ("received", {"expected": b"abcd"}, _from_peer(b"abx"), "byte 2: expected 0x63"),
    "too much": (
        "received",
        {"expected": b"ab"},
        _from_peer(b"abc"),
        "byte 2: expected nothing more, received 0x63",
    ),
    "short, EOF": ("received", {"expected": b"ab"}, _from_peer(b"a", _eof), "the peer sent EOF"),
    "short, reset": ("received", {"expected": b"ab"}, _from_peer(b"a", abort), "the peer reset"),
    "contains, EOF": ("received", {"contains": b"b"}, _from_peer(b"a", _eof), "b'b' somewhere"),
    "pattern, EOF": (
        "received",
        {"expected": re.compile(b"b+")},
        _from_peer(b"a", _eof),
        r"a match of b'b\+'",
    ),
    "object, EOF": (
        "received",
        {"expected": Decimal(1)},
        _from_peer(b"a", _eof),
        r"equal to Decimal",
    ),
    "sent byte": ("sent", {"expected": b"ab"}, _from_us(b"x"), "sent 0x78 'x'"),
    "sent too much": ("sent", {"expected": b"a"}, _from_us(b"ab"), "expected nothing more, sent"),
    "sent short, EOF": (
        "sent",
        {"expected": b"ab"},
        _from_us(b"a", Connection.send_eof),
        "our side has sent EOF",
    ),
    "sent short, close": (
        "sent",
        {"contains": b"b"},
        _from_us(b"a", Connection.close),
        "our side has sent EOF",
    ),
    "sent short, reset": (
        "sent",
        {"expected": re.compile(b"b")},
        _from_us(b"a", Connection.reset),
        "closed on our side",
    ),
}


@pytest.mark.parametrize("when", ["before", "while waiting"])
@pytest.mark.parametrize("case", SOON)
def test_a_claim_fails_as_soon_as_it_cannot_become_true(
    subject: TCPServer | Connection,
    tcp_server: TCPServer,
    client: socket.socket,
    armed: threading.Semaphore,
    case: str,
    when: str,
) -> None:
    direction, claim, act, text = SOON[case]
    verb = getattr(subject, f"assert_{direction}")
    with Background() as pool:
        if when == "before":
            act(tcp_server, client)
        waiting = pool.submit(verb, **claim, timeout=FOREVER)
        if when == "while waiting":
            armed.acquire()
            act(tcp_server, client)
        with pytest.raises(MismatchError, match=text):
            waiting.result()


@pytest.mark.parametrize("when", ["before", "while waiting"])
@pytest.mark.parametrize("direction", ["received", "sent"])
def test_a_second_connection_with_bytes_fails_at_once_and_both_are_shown(
    tcp_server: TCPServer,
    client: socket.socket,
    armed: threading.Semaphore,
    direction: str,
    when: str,
) -> None:
    with plain_client(tcp_server.address) as second, Background() as pool:
        tcp_server.wait_connections(2)

        def speak() -> None:
            for data, sock, conn in zip(
                [b"first", b"second"], [client, second], tcp_server.connections, strict=True
            ):
                sock.sendall(data) if direction == "received" else conn.send(data)

        if when == "before":
            speak()
        waiting = pool.submit(
            getattr(tcp_server, f"assert_{direction}"), b"first and more", timeout=FOREVER
        )
        if when == "while waiting":
            armed.acquire()
            speak()
        with pytest.raises(MismatchError) as caught:
            waiting.result()
    assert str(caught.value).splitlines() == [
        f"tcp_server: 2 connections {direction} bytes, so there is no one stream to compare; "
        f"use tcp_server.connections[i].assert_{direction}(…)",
        f"  #0 {direction} b'first'",
        f"  #1 {direction} b'second'",
    ]


def test_silent_connections_do_not_count(tcp_server: TCPServer, client: socket.socket) -> None:
    with plain_client(tcp_server.address) as speaker, plain_client(tcp_server.address):
        speaker.sendall(b"only me")
        tcp_server.assert_received(b"only me", timeout=0)
        tcp_server.wait_connections(3)
        tcp_server.connections[1].assert_received(b"only me")
        tcp_server.connections[0].assert_received(b"")
        tcp_server.connections[2].assert_nothing_received()


def test_closing_the_endpoint_ends_an_assertion(
    subject: TCPServer | Connection, armed: threading.Semaphore
) -> None:
    server = subject if isinstance(subject, TCPServer) else subject.endpoint
    with Background() as pool:
        waiting = pool.submit(subject.assert_received, b"x", timeout=FOREVER)
        armed.acquire()
        server.close()
        with pytest.raises(MismatchError, match="is closed"):
            waiting.result()


# -- it waits while the claim can still become true


class Glance:
    """Equal to one stream, and tells each time that it was compared."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.compared = threading.Semaphore(0)

    def __eq__(self, other: object) -> bool:
        self.compared.release()
        return other == self._data

    __hash__ = None  # type: ignore[assignment]  # as Python does for one with `==`

    def __repr__(self) -> str:
        return "a glance"


def test_an_object_is_compared_whenever_more_has_come(
    subject: TCPServer | Connection, client: socket.socket
) -> None:
    glance = Glance(b"abc")
    with Background() as pool:
        waiting = pool.submit(subject.assert_received, glance, timeout=FOREVER)
        for byte in b"abc":
            glance.compared.acquire()
            client.sendall(bytes([byte]))
        waiting.result()


@pytest.mark.parametrize(
    "claim",
    [{"expected": b"<abc>"}, {"contains": b"abc"}, {"expected": re.compile(rb"a.c>$")}],
    ids=["whole", "contains", "pattern"],
)
@pytest.mark.parametrize("direction", ["received", "sent"])
def test_a_claim_becomes_true_piece_by_piece(
    subject: TCPServer | Connection,
    tcp_server: TCPServer,
    client: socket.socket,
    claim: dict[str, Any],
    direction: str,
) -> None:
    tcp_server.wait_connections(1)
    (conn,) = tcp_server.connections
    send = client.sendall if direction == "received" else conn.send
    with Background() as pool:
        waiting = pool.submit(getattr(subject, f"assert_{direction}"), **claim, timeout=FOREVER)
        for byte in b"<abc>":
            send(bytes([byte]))
        waiting.result()


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        ({"expected": b"abc"}, r"b'abc'"),
        ({"contains": b"abc"}, r"b'abc' somewhere"),
        ({"expected": re.compile(rb"a.c")}, r"a match of b'a\.c'"),
        ({"expected": Glance(b"abc")}, r"something equal to a glance"),
    ],
    ids=["whole", "contains", "pattern", "object"],
)
def test_a_deadline_says_what_came_and_that_more_may_come(
    subject: TCPServer | Connection, client: socket.socket, claim: dict[str, Any], text: str
) -> None:
    label = "tcp_server" if isinstance(subject, TCPServer) else "tcp_server connection 0"
    for data, came in [(b"", "nothing was received"), (b"ab", r"received so far: b'ab'")]:
        client.sendall(data)
        with pytest.raises(
            WaitTimeout,
            match=rf"^{label}: waited 0 s for {text}\n  {came}.* \({len(data)} bytes\), "
            "and nothing says that no more will come$",
        ):
            subject.assert_received(**claim, timeout=0)


def test_an_empty_stream_is_a_claim_too(
    subject: TCPServer | Connection, client: socket.socket
) -> None:
    subject.assert_received(b"", timeout=0)
    subject.assert_sent(b"", timeout=0)
    subject.assert_received(re.compile(rb"\A\Z"), timeout=0)
    client.sendall(b"x")
    with pytest.raises(MismatchError, match="expected nothing more, received 0x78 'x'"):
        subject.assert_received(b"", timeout=FOREVER)


def test_nothing_received_means_nothing_before_the_call(
    subject: TCPServer | Connection, client: socket.socket
) -> None:
    subject.assert_nothing_received()
    client.sendall(b"abc")
    with pytest.raises(MismatchError, match=r"(?s)tcp_server.* received .*expected none.*b'abc'"):
        subject.assert_nothing_received()
