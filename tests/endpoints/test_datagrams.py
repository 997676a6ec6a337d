import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_sockets import (
    DatagramPeer,
    EndpointClosedError,
    MismatchError,
    PeerGoneError,
    Sockets,
    SocketsError,
    UDPPeer,
    UnixDatagramPeer,
    WaitTimeout,
)
from stream_ends import FOREVER, PATIENCE, Background, Interrupted, family_of

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
def client(peer: DatagramPeer) -> Iterator[socket.socket]:
    """Yield a named plain socket that is connected to the peer."""
    family = family_of(peer.address)
    names: dict[int, Any] = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(names.get(family, ""))
        client.connect(peer.address)
        yield client


def name_of(sock: socket.socket) -> Any:
    """Return a socket's name as we hand out addresses."""
    name = sock.getsockname()
    return name.decode() if isinstance(name, bytes) else name[:2]


# -- what is recorded


def test_datagrams_keep_their_bounds_their_source_and_their_time(
    peer: DatagramPeer, client: socket.socket
) -> None:
    client.send(b"one")
    client.send(b"")
    client.send(b"two")
    assert peer.received == [b"one", b"", b"two"]
    assert [datagram.data for datagram in peer.datagrams] == peer.received
    assert {datagram.source for datagram in peer.datagrams} == {name_of(client)}
    times = [datagram.time for datagram in peer.datagrams]
    assert times == sorted(set(times))
    assert repr(peer).endswith("3 datagrams received, 0 sent, open>")


def test_everything_sent_before_a_look_is_in_it(peer: DatagramPeer, client: socket.socket) -> None:
    for number in range(1, 301):
        client.send(b"%d" % number)
        assert len(peer.received) == number
        peer.assert_datagrams(number, timeout=0)


@pytest.mark.parametrize("size", [0, 1, 65_507])
def test_any_size_arrives_whole_in_both_directions(
    peer: DatagramPeer, client: socket.socket, size: int
) -> None:
    content = bytes(range(256)) * 256
    client.send(content[:size])
    peer.expect(content[:size])
    peer.send(content[:size])
    assert client.recv(100_000) == content[:size]
    peer.check()
    assert peer.sent == [content[:size]]


def test_a_unix_datagram_of_any_length_is_recorded_whole(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_000_000)
        content = bytes(range(256)) * (
            client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 512
        )
        client.sendto(content, peer.address)
        client.sendto(b"next", peer.address)
    peer.assert_received(content, b"next")


def test_an_unnamed_sender_has_no_source(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"who am I", peer.path)
    assert peer.expect(b"who am I").source is None
    with pytest.raises(SocketsError, match="its last datagram came from an unnamed socket; give t"):
        peer.send(b"you?")


def test_the_record_stays_readable_after_the_end(peer: DatagramPeer, client: socket.socket) -> None:
    client.send(b"a")
    client.send(b"b")
    peer.wait_datagrams(2)
    peer.expect(b"a")
    peer.send(b"c")
    peer.close()
    peer.close()
    assert (peer.received, peer.sent) == ([b"a", b"b"], [b"c"])
    assert [event.kind for event in peer.transcript] == ["received", "received", "sent"]
    peer.expect(b"b")
    peer.assert_received(b"a", b"b")
    peer.assert_datagrams(2)
    for use in (lambda: peer.send(b"x"), lambda: peer.expect(b"x"), lambda: peer.wait_datagrams(3)):
        with pytest.raises(EndpointClosedError, match="peer is closed: use it before"):
            use()
    with pytest.raises(MismatchError, match="received 2 datagrams, expected 3"):
        peer.assert_datagrams(3)
    with pytest.raises(MismatchError, match=r"(?s)b'c' is missing.*can come: peer is closed"):
        peer.assert_received(b"a", b"b", b"c")


def test_what_the_kernel_holds_at_the_close_is_recorded(
    peer: DatagramPeer, client: socket.socket
) -> None:
    with peer._lock:  # the I/O thread does not read before the close
        client.send(b"just in time")
        peer.close()
    assert peer.received == [b"just in time"]


@pytest.mark.parametrize("verb", ["expect", "wait_datagrams", "assert_datagrams"])
def test_a_datagram_that_comes_and_a_close_while_a_verb_looks_are_not_missed(
    peer: DatagramPeer, client: socket.socket, verb: str
) -> None:
    def send_and_close() -> None:
        client.send(b"x")
        peer.close()

    peer._lock = Interrupted(peer._lock, send_and_close)
    getattr(peer, verb)(b"x" if verb == "expect" else 1, timeout=FOREVER)
    assert peer.is_closed


# -- sending


def test_send_goes_to_the_last_source_or_where_it_is_told(
    peer: DatagramPeer, client: socket.socket, sockets: Sockets
) -> None:
    with pytest.raises(SocketsError, match="peer does not know where to send: nobody has sent to"):
        peer.send(b"hello?")
    peer.send(b"told", to=name_of(client))
    assert client.recv(100) == b"told"
    other = next(make for name, make in PEERS.items() if name == _kind(peer))(sockets)
    other.send(b"from another", to=peer.address)
    peer.wait_datagrams(1)
    peer.send(b"back")
    assert other.expect(b"back").source == peer.address
    client.send(b"last")
    peer.wait_datagrams(2)
    peer.send(b"to the last")
    assert client.recv(100) == b"to the last"


def test_an_answer_goes_to_who_has_sent_just_now(
    peer: DatagramPeer, client: socket.socket, sockets: Sockets
) -> None:
    earlier = next(make for name, make in PEERS.items() if name == _kind(peer))(sockets)
    for number in range(300):  # nobody waits for what the kernel may hold still
        earlier.send(b"earlier", to=peer.address)
        client.send(b"last")
        peer.send(b"%d" % number)
        assert client.recv(100) == b"%d" % number


def _kind(peer: DatagramPeer) -> str:
    kinds = {"unix": "abstract" if str(peer.address).startswith("\0") else "path"}
    return kinds.get(peer.family, peer.family)


@pytest.mark.parametrize("kind", ["ipv4", "path"])
def test_a_datagram_that_is_too_long_says_how_long_and_to_whom(sockets: Sockets, kind: str) -> None:
    peer, other = PEERS[kind](sockets), PEERS[kind](sockets)
    where = other.path if kind == "path" else f"127.0.0.1:{other.port}"
    with pytest.raises(OSError, match=f"Message too long: 100,000,000 bytes to {where}$"):
        peer.send(bytes(100_000_000), to=other.address)
    assert peer.sent == []
    other.assert_nothing_received()


def test_a_full_queue_says_so(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer(name="peer")
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s,
    ):
        s.bind(f"{folder}/s")
        with pytest.raises(
            BlockingIOError,
            match=rf"the queue to {folder}/s is full; let the receiver read first",
        ):
            _send_until_it_fails(peer, f"{folder}/s")
        taken = len(peer.sent)
        assert taken
        assert [s.recv(10) for _ in range(taken)] == [b"x"] * taken
        peer.send(b"y", to=f"{folder}/s")
        assert s.recv(10) == b"y"


def _send_until_it_fails(peer: DatagramPeer, to: str) -> None:
    for _ in range(100_000):
        peer.send(b"x", to=to)


def test_nobody_there_is_peer_gone_where_the_kernel_says_so(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer(name="peer")
    with pytest.raises(
        PeerGoneError, match="peer cannot send to /nowhere/s: No such file"
    ) as caught:
        peer.send(b"x", to="/nowhere/s")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    gone = sockets.unix_datagram_peer(abstract=True)
    gone.close()
    with pytest.raises(PeerGoneError, match="Connection refused"):
        peer.send(b"x", to=gone.address)


# -- expecting


def test_expect_takes_one_after_the_other(peer: DatagramPeer, client: socket.socket) -> None:
    for content in (b"one", b"two 2", b"three", b"four"):
        client.send(content)
    assert peer.expect(b"one").data == b"one"
    assert peer.expect(re.compile(rb"two \d")).source == name_of(client)
    with pytest.raises(
        MismatchError, match="byte 2: expected 0x45 'E', received 0x72 'r'"
    ) as caught:
        peer.expect(b"thEE")
    assert "\n  from      " in str(caught.value)
    with pytest.raises(MismatchError, match=r"a full match of b'our'\n  received  b'four'\n  from"):
        peer.expect(re.compile(rb"our"))
    with pytest.raises(WaitTimeout, match="waited 0 s for the datagram b'five'; 4 datagrams came"):
        peer.expect(b"five", timeout=0)
    with Background() as pool:
        waiting = pool.submit(peer.expect, b"five", timeout=FOREVER)
        client.send(b"five")
        waiting.result()


def test_closing_wakes_who_waits(peer: DatagramPeer, armed: threading.Semaphore) -> None:
    with Background(8) as pool:
        waits = [
            pool.submit(peer.expect, b"x", timeout=FOREVER),
            pool.submit(peer.wait_datagrams, 1, timeout=FOREVER),
        ]
        claims = [
            pool.submit(peer.assert_datagrams, 1, timeout=FOREVER),
            pool.submit(peer.assert_received, b"x", timeout=FOREVER),
        ]
        for _ in (*waits, *claims):
            armed.acquire()
        peer.close()
        assert {type(wait.exception()) for wait in waits} == {EndpointClosedError}
        assert {type(claim.exception()) for claim in claims} == {MismatchError}


# -- echo, RFC 862


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_echo_returns_each_datagram_to_its_own_source(sockets: Sockets, family: str) -> None:
    server = sockets.udp_echo_server(family=family)
    kind = family_of(server.address)
    with (
        socket.socket(kind, socket.SOCK_DGRAM) as one,
        socket.socket(kind, socket.SOCK_DGRAM) as two,
    ):
        for client in (one, two):
            client.settimeout(PATIENCE)
            client.connect(server.address)
        contents = {one: [b"a", b"", bytes(65_507)], two: [b"b"]}
        for client, datagrams in contents.items():
            for content in datagrams:
                client.send(content)
        for client, datagrams in contents.items():
            assert [client.recv(100_000) for _ in datagrams] == datagrams
    assert server.sent == server.received


@pytest.mark.parametrize("peer_class", [UDPPeer, UnixDatagramPeer])
def test_a_peer_works_alone_as_a_context_manager(peer_class: Callable[[], DatagramPeer]) -> None:
    with peer_class() as peer, peer_class() as other:
        other.send(b"x", to=peer.address)
        peer.expect(b"x")
    assert peer.is_closed
