from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_sockets import (
    DatagramPeer,
    PeerGoneError,
    Settings,
    Sockets,
    UDPPeer,
    UnsupportedError,
    capabilities,
)
from pytest_sockets._endpoints.datagrams import DatagramEndpoint
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    BeforeSend,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Effect,
    FailHandshake,
    Moment,
    OnFirstByte,
    Refuse,
    Reorder,
    Reset,
    Truncate,
    Unreachable,
    WrongSource,
)
from stream_ends import FOREVER, PATIENCE, family_of
from told import told

pytestmark = pytest.mark.timeout(120)

PEERS: dict[str, Callable[[Sockets], DatagramPeer]] = {
    "ipv4": lambda sockets: sockets.udp_peer(name="peer"),
    "ipv6": lambda sockets: sockets.udp_peer(family="ipv6", name="peer"),
    "path": lambda sockets: sockets.unix_datagram_peer(name="peer"),
    "abstract": lambda sockets: sockets.unix_datagram_peer(abstract=True, name="peer"),
}
NAMES: dict[int, Any] = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}


@contextlib.contextmanager
def plain_socket(address: Any) -> Iterator[socket.socket]:
    """Yield a named plain socket of the family of an address."""
    family = family_of(address)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(NAMES.get(family, ""))
        yield sock


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, sockets: Sockets) -> DatagramPeer:
    return PEERS[request.param](sockets)


@pytest.fixture
def client(peer: DatagramPeer) -> Iterator[socket.socket]:
    """Yield a plain socket whose datagram the peer has had, so that it knows whom to answer."""
    with plain_socket(peer.address) as client:
        client.sendto(b"hello", peer.address)
        peer.expect(b"hello")
        yield client


def taken(client: socket.socket) -> list[bytes]:
    """Return what has come. A local send is over when the datagram is in its receiver's queue."""
    return [data for data, _ in taken_with_source(client)]


def taken_with_source(client: socket.socket) -> list[tuple[bytes, Any]]:
    found: list[tuple[bytes, Any]] = []
    client.setblocking(False)
    try:
        while True:
            found.append(client.recvfrom(100_000))
    except BlockingIOError:
        return found
    finally:
        client.settimeout(PATIENCE)


def fault_notes(peer: DatagramEndpoint) -> list[str]:
    return [event.note for event in peer.transcript if event.kind == "fault"]


# -- what each effect does


THREE = [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("effect", "at_once", "on_lifting", "hits"),
    [
        (Drop(), [], [], 3),
        (Duplicate(), [b"one", b"one", b"two", b"two", b"three", b"three"], [], 3),
        (Reorder(), [b"two", b"one"], [b"three"], 2),
        (Delay(FOREVER), [], THREE, 3),
        (Truncate(0), [b"", b"", b""], [], 3),
        (Truncate(3), [b"one", b"two", b"thr"], [], 1),
        (Corrupt(99), None, [], 3),
        (WrongSource(), THREE, [], 3),
    ],
    ids=repr,
)
def test_an_effect_acts_on_each_datagram_until_it_is_lifted(
    peer: DatagramPeer,
    client: socket.socket,
    effect: Effect,
    at_once: list[bytes] | None,
    on_lifting: list[bytes],
    hits: int,
) -> None:
    fault = peer.fault(effect)
    for data in THREE:
        peer.send(data)
    came = taken(client)
    if at_once is not None:
        assert came == at_once
    assert peer.sent == came
    assert fault.hits == hits
    fault.lift()
    assert taken(client) == on_lifting
    assert peer.sent == [*came, *on_lifting]
    peer.send(b"four")
    assert taken(client) == [b"four"]
    assert fault.hits == hits


@pytest.mark.parametrize("size", [1, 2, 5])
def test_so_many_bytes_are_corrupted_at_drawn_places(
    peer: DatagramPeer, client: socket.socket, size: int
) -> None:
    places: set[int] = set()
    with peer.fault(Corrupt(size)):
        for _ in range(50):
            peer.send(bytes(5))
            (data,) = taken(client)
            changed = [at for at, byte in enumerate(data) if byte]
            assert len(changed) == size
            places.update(changed)
    assert places == set(range(5))


def test_an_empty_datagram_has_nothing_to_corrupt(
    peer: DatagramPeer, client: socket.socket
) -> None:
    fault = peer.fault(Corrupt(), must_hit=False)
    peer.send(b"")
    assert taken(client) == [b""]
    assert fault.hits == 0


def test_a_delay_is_over_by_itself_and_keeps_the_order(
    peer: DatagramPeer, client: socket.socket
) -> None:
    fault = peer.fault(Delay(0.001))
    for data in THREE:
        peer.send(data)
    assert [client.recv(99) for _ in THREE] == THREE
    assert fault.hits == 3
    assert peer.sent == THREE


def test_each_datagram_has_its_own_delay(peer: DatagramPeer, client: socket.socket) -> None:
    # The second is due when the first has gone already, so its clock has to be started anew.
    with peer.fault(Delay(0.001)):
        for data in THREE:
            peer.send(data)
            assert client.recv(99) == data


@pytest.mark.parametrize("effect", [Delay(FOREVER), Reorder()], ids=repr)
def test_what_is_kept_back_at_the_end_is_never_sent(
    peer: DatagramPeer, client: socket.socket, effect: Effect
) -> None:
    fault = peer.fault(effect)
    peer.send(b"late")
    peer.close()
    fault.lift()
    assert taken(client) == []
    assert peer.sent == []
    assert peer.transcript[-1].kind == "fault"


def test_a_pair_of_places_is_reordered_each_by_itself(peer: DatagramPeer) -> None:
    with plain_socket(peer.address) as one, plain_socket(peer.address) as other:
        names = []
        for client in (one, other):
            client.sendto(b"hello", peer.address)
            names.append(peer.expect(b"hello").source)
        peer.fault(Reorder())
        for data in (b"1", b"2", b"3"):
            for name in names:
                peer.send(data, to=name)
        assert taken(one) == taken(other) == [b"2", b"1"]


# -- another source


def test_a_wrong_source_is_another_one_and_always_the_same(
    peer: DatagramPeer, client: socket.socket
) -> None:
    peer.send(b"right")
    with peer.fault(WrongSource()):
        peer.send(b"wrong")
        peer.send(b"wrong")
    peer.send(b"right")
    with peer.fault(WrongSource()):
        peer.send(b"wrong")
    came = taken_with_source(client)
    assert [data for data, _ in came] == [b"right", b"wrong", b"wrong", b"right", b"wrong"]
    right = {source for data, source in came if data == b"right"}
    wrong = {source for data, source in came if data == b"wrong"}
    assert len(right) == len(wrong) == 1
    assert right != wrong
    assert [event.note[:5] for event in peer.transcript if event.kind == "sent"] == [
        note for data, _ in came for note in ["" if data == b"right" else "from "]
    ]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_connected_client_never_sees_a_wrong_source(sockets: Sockets, family: str) -> None:
    peer = sockets.udp_peer(family=family)
    with plain_socket(peer.address) as client:
        client.connect(peer.address)
        client.send(b"hello")
        peer.expect(b"hello")
        with peer.fault(WrongSource()) as fault:
            peer.send(b"wrong")
        peer.send(b"right")
        assert taken(client) == [b"right"]
        assert fault.hits == 1


# -- a port that refuses


@pytest.fixture(params=["ipv4", "ipv6"])
def udp(request: pytest.FixtureRequest, sockets: Sockets) -> UDPPeer:
    return sockets.udp_peer(family=request.param)


@pytest.fixture
def connected(udp: UDPPeer) -> Iterator[socket.socket]:
    with plain_socket(udp.address) as client:
        client.connect(udp.address)
        yield client


def is_free(address: tuple[str, int]) -> bool:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(address)
        except OSError:
            return False
        return True


def test_a_client_is_refused_until_the_fault_is_lifted(
    udp: UDPPeer, connected: socket.socket
) -> None:
    address = udp.address
    for _ in range(20):
        connected.send(b"before")
        fault = udp.fault(Unreachable())
        connected.send(b"lost")
        with pytest.raises(ConnectionRefusedError):
            connected.recv(99)
        udp.send(b"we can still send")
        assert connected.recv(99) == b"we can still send"
        assert not is_free(address)
        fault.lift()
        connected.send(b"after")
        assert not is_free(address)
        assert udp.address == address
        udp.send(b"and answer")
        assert connected.recv(99) == b"and answer"
        assert fault.hits == 0
    assert udp.received == [b"before", b"after"] * 20


def test_two_faults_refuse_until_both_are_lifted(udp: UDPPeer, connected: socket.socket) -> None:
    first, second = udp.fault(Unreachable()), udp.fault(Unreachable())
    for fault in (first, second):
        connected.send(b"lost")
        with pytest.raises(ConnectionRefusedError):
            connected.recv(99)
        fault.lift()
    connected.send(b"there")
    udp.assert_received(b"there")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.2", "localhost"])
def test_every_host_can_refuse(sockets: Sockets, host: str) -> None:
    peer = sockets.udp_peer(host=host)
    target = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), peer.port)
    with plain_socket(target) as client:
        client.connect(target)
        with peer.fault(Unreachable()):
            client.send(b"lost")
            with pytest.raises(ConnectionRefusedError):
                client.recv(99)
        client.send(b"there")
        peer.assert_received(b"there")


def test_an_endpoint_closes_while_it_refuses(udp: UDPPeer) -> None:
    fault = udp.fault(Unreachable())
    udp.close()
    assert is_free(udp.address)
    fault.lift()
    assert is_free(udp.address)
    assert [event.note for event in udp.transcript] == ["Unreachable()"]


def test_this_machine_says_that_it_can_refuse() -> None:
    assert capabilities["unreachable"] == "exact"
    names = ["drop", "duplicate", "reorder", "delay", "corrupt", "truncate", "wrong_source"]
    assert {capabilities[name] for name in names} == {"exact"}


# -- when


@pytest.mark.parametrize(
    ("moment", "hits"),
    [
        (None, 5),
        (BeforeSend(), 5),
        (AfterSent(0), 5),
        (AfterSent(3), 3),  # one was sent before the fault was made
        (AfterReceived(0), 5),
        (AfterReceived(2), 4),
        (AfterReceived(b"ell"), 3),  # that of "hello" before the fault does not count
        (AfterReceived(b"bell"), 3),
        (AfterReceived(9), 0),
    ],
    ids=repr,
)
def test_a_fault_acts_on_each_datagram_since_its_moment(
    peer: DatagramPeer, client: socket.socket, moment: Moment | None, hits: int
) -> None:
    peer.send(b"before")
    fault = peer.fault(Truncate(1), at=moment, must_hit=False)
    peer.send(b"10")
    client.sendto(b"nothing", peer.address)
    peer.expect(b"nothing")
    peer.send(b"11")
    client.sendto(b"a bell rings", peer.address)
    client.sendto(b"twice", peer.address)
    peer.wait_datagrams(4)
    for data in (b"12", b"13", b"14"):
        peer.send(data)
    sent = [b"10", b"11", b"12", b"13", b"14"]
    assert taken(client) == [b"before", *sent[: 5 - hits], *[b"1"] * hits]
    assert fault.hits == hits


def test_an_answer_comes_after_what_it_answers(sockets: Sockets) -> None:
    server = sockets.udp_echo_server()
    server.fault(Truncate(1), at=AfterReceived(b"second"))
    with plain_socket(server.address) as client:
        for data in (b"first", b"second", b"third"):
            client.sendto(data, server.address)
        assert server.sent == [b"first", b"s", b"t"]


def test_so_many_times_at_most(peer: DatagramPeer, client: socket.socket) -> None:
    fault = peer.fault(Drop(), at=AfterSent(1), times=2)
    for number in range(5):
        peer.send(b"%d" % number)
    assert taken(client) == [b"0", b"3", b"4"]
    assert fault.hits == 2
    fault.wait_hit(2, timeout=0)
    with pytest.raises(ValueError, match=r"^n=3 cannot be: the fault Drop\(\) at AfterSent\(1\) "):
        fault.wait_hit(3)


# -- chance


EFFECTS_OF_CHANCE = [Drop, Duplicate, Reorder]


def outcome(effect: Effect, seed: int, **how: Any) -> tuple[list[bytes], int]:
    """Return what is sent of a hundred datagrams, and how many of them are hit."""
    with Sockets(Settings(timeout=PATIENCE, seed=seed)) as sockets:
        pair = sockets.socket_pair("datagram")
        fault = pair.fault(effect, **how)
        for number in range(100):
            pair.send(b"%d" % number)
            taken(pair.socket)
        return pair.sent, fault.hits


@pytest.mark.parametrize(
    "effect", [*[kind(0.3) for kind in EFFECTS_OF_CHANCE], Corrupt()], ids=repr
)
def test_a_seed_makes_the_same_choices_again(effect: Effect) -> None:
    first = outcome(effect, 1)
    assert outcome(effect, 1) == first
    assert outcome(effect, 2) != first


def test_each_fault_of_a_test_makes_its_own_choices(sockets: Sockets) -> None:
    pair = sockets.socket_pair("datagram")
    sent = []
    for _ in range(2):
        with pair.fault(Corrupt(8)):
            pair.send(bytes(8))
        sent.append(pair.socket.recv(9))
    assert sent[0] != sent[1]


@pytest.mark.parametrize("kind", EFFECTS_OF_CHANCE)
def test_only_what_is_drawn_is_hit(kind: Callable[[float], Effect]) -> None:
    sent, hits = outcome(kind(0.3), 3)
    assert 0 < hits < 60
    others = len([data for at, data in enumerate(sent) if data != b"%d" % at])
    change = {Drop: len(sent) == 100 - hits, Duplicate: len(sent) == 100 + hits}
    assert change.get(kind, others in (2 * hits, 2 * hits - 1))  # type: ignore[call-overload]  # a type is a key
    assert outcome(kind(0.3), 3, times=4)[1] == 4
    assert outcome(kind(1), 3, times=4)[1] == 4


# -- several


@pytest.mark.parametrize(
    ("effects", "sent"),
    [
        ([Duplicate(), Reorder()], [b"ab", b"ab", b"cd", b"cd"]),
        ([Reorder(), Duplicate()], [b"cd", b"cd", b"ab", b"ab"]),
        ([Truncate(1), Truncate(2)], [b"a", b"c"]),
        ([Drop(), Duplicate()], []),
        ([Delay(0.001), Reorder()], [b"cd", b"ab"]),
    ],
    ids=repr,
)
def test_each_gets_what_those_before_it_let_pass(
    peer: DatagramPeer, client: socket.socket, effects: list[Effect], sent: list[bytes]
) -> None:
    for effect in effects:
        peer.fault(effect, must_hit=False)
    peer.send(b"ab")
    peer.send(b"cd")
    assert [client.recv(99) for _ in sent] == sent
    assert taken(client) == []


def test_what_is_let_go_meets_those_after_it(peer: DatagramPeer, client: socket.socket) -> None:
    first, second = peer.fault(Delay(FOREVER)), peer.fault(Truncate(1))
    peer.send(b"one")
    assert second.hits == 0
    first.lift()
    assert taken(client) == [b"o"]
    assert second.hits == 1


def test_what_is_let_go_does_not_meet_those_before_it_again(
    peer: DatagramPeer, client: socket.socket
) -> None:
    peer.fault(Duplicate())
    with peer.fault(Delay(FOREVER)):
        peer.send(b"one")
    assert taken(client) == [b"one", b"one"]


def test_a_drop_that_has_had_its_times_lets_the_next_fault_act(
    peer: DatagramPeer, client: socket.socket
) -> None:
    peer.fault(Duplicate())
    peer.fault(Drop(), times=1)
    peer.send(b"one")
    assert taken(client) == [b"one"]


# -- what is sent, besides by the test


def test_the_answers_of_a_rule_are_hit(peer: DatagramPeer, client: socket.socket) -> None:
    peer.on(b"ask", [b"one", b"two"])
    peer.fault(Drop(), times=1)
    client.sendto(b"ask", peer.address)
    assert peer.sent == [b"two"]
    assert taken(client) == [b"two"]


def test_the_answers_of_an_echo_server_are_hit(sockets: Sockets) -> None:
    server = sockets.udp_echo_server()
    fault = server.fault(Drop(), times=1)
    with plain_socket(server.address) as client:
        client.sendto(b"one", server.address)
        fault.wait_hit()
        client.sendto(b"two", server.address)
        assert client.recv(99) == b"two"
    server.assert_received(b"one", b"two")


def test_a_pair_can_have_most_of_them(sockets: Sockets) -> None:
    pair = sockets.socket_pair("datagram", name="pair")
    with pair.fault(Reorder()):
        for data in THREE:
            pair.send(data)
        assert taken(pair.socket) == [b"two", b"one"]
    assert taken(pair.socket) == [b"three"]
    with pytest.raises(UnsupportedError, match=r"pair cannot have WrongSource\(\): in a pair nob"):
        pair.fault(WrongSource())


def test_a_call_is_told_of_its_own_datagram_and_of_no_other(sockets: Sockets) -> None:
    peer = sockets.unix_datagram_peer(name="peer")
    nowhere = f"{peer.path}-nobody"
    with peer.fault(Corrupt(), must_hit=False):
        with pytest.raises(PeerGoneError, match=r"peer cannot send to .*-nobody: No such file"):
            peer.send(b"now", to=nowhere)
    with peer.fault(Delay(FOREVER)):
        peer.send(b"later", to=nowhere)
    assert peer.transcript[-2].note == "Delay(3600.0) lifted"
    lost = peer.transcript[-1]
    assert lost.kind == "note"
    assert lost.note.startswith(f"lost: datagram 1 (5 bytes) to {nowhere}: FileNotFoundError: ")
    assert peer.sent == []
    peer.check()


def test_a_refusal_does_not_lose_what_was_kept_back(sockets: Sockets) -> None:
    peer = sockets.udp_peer()
    with plain_socket(peer.address) as client:
        peer.fault(Reorder())
        name = client.getsockname()
        peer.send(b"kept", to=name)
        with pytest.raises(OSError, match="Message too long"):
            peer.send(bytes(70_000), to=name)
        assert taken(client) == [b"kept"]


# -- what is told


def test_the_transcript_says_which_datagram_was_hit(sockets: Sockets) -> None:
    pair = sockets.socket_pair("datagram", name="pair")
    pair.send(b"zero")
    with pair.fault(Drop(), at=AfterSent(1), times=1):
        pair.send(b"1")
    with pair.fault(Duplicate()):
        pair.send(b"two")
    assert [(event.kind, event.data, event.note) for event in pair.transcript] == [
        ("sent", b"zero", ""),
        ("fault", b"", "Drop() at AfterSent(1): datagram 1 (1 byte)"),
        ("note", b"", "Drop() lifted"),
        ("fault", b"", "Duplicate(): datagram 2 (3 bytes)"),
        ("sent", b"two", ""),
        ("sent", b"two", ""),
        ("note", b"", "Duplicate() lifted"),
    ]
    assert pair._notes() == ["Drop() at AfterSent(1): 1 hit", "Duplicate(): 1 hit"]


def test_where_a_datagram_was_to_go_is_told(peer: DatagramPeer, client: socket.socket) -> None:
    with peer.fault(Drop()):
        peer.send(b"one")
    (event,) = [event for event in peer.transcript if event.kind == "fault"]
    assert event.peer == peer.datagrams[0].source
    assert event.note.startswith("Drop(): datagram 0 (3 bytes) to ")


@pytest.mark.usefixtures("forgiven")
def test_a_fault_that_nothing_met_is_a_problem(sockets: Sockets) -> None:
    peer = sockets.udp_peer(name="peer")
    with plain_socket(peer.address) as client:
        client.sendto(b"hello", peer.address)
        peer.expect(b"hello")
        peer.send(b"one")
        peer.send(b"two")
        peer.fault(Drop(0.5), at=AfterSent(2))
        peer.fault(Duplicate(), must_hit=False)
        peer.fault(Unreachable())
    assert told(peer) == [
        "MismatchError: peer: the fault Drop(0.5) at AfterSent(2) met nothing: "
        "2 datagrams sent, 1 received; must_hit=False allows it"
    ]


def test_a_fault_prints_what_it_is(sockets: Sockets) -> None:
    peer = sockets.udp_peer(name="peer")
    with peer.fault(Drop(0.5), must_hit=False) as fault:
        assert repr(fault) == "<Fault Drop(0.5) of peer, 0 hits, active>"
    assert repr(fault) == "<Fault Drop(0.5) of peer, 0 hits, lifted>"


def test_a_hit_can_be_awaited(sockets: Sockets) -> None:
    server = sockets.udp_echo_server()

    async def main() -> None:
        fault = server.fault(Drop())
        with plain_socket(server.address) as client:
            client.sendto(b"one", server.address)
            await fault.aio.wait_hit()

    asyncio.run(main())


# -- what cannot be had


@pytest.mark.parametrize(
    ("effect", "how", "kind", "text"),
    [
        (Reset(), {}, ValueError, "peer cannot have Reset(): that is for streams"),
        (Refuse(), {}, ValueError, "peer cannot have Refuse(): that is for streams"),
        (Drop(), {"at": AtAccept()}, ValueError, "cannot have AtAccept(): that is for streams"),
        (Drop(), {"at": OnFirstByte()}, ValueError, "have OnFirstByte(): that is for streams"),
        (FailHandshake(), {}, UnsupportedError, "needs TLS, which peer does not speak"),
        (Drop(), {"connection": 0}, ValueError, "has datagrams and no connections: leave out con"),
        (Drop(), {"times": 0}, ValueError, "times"),
        (Drop(), {"at": 5}, TypeError, "at must be a moment of pytest_sockets.faults"),
        (Drop, {}, TypeError, "effect must be one of pytest_sockets.faults"),
        (
            Unreachable(),
            {"times": 2},
            ValueError,
            "leave out times= and connection=; Drop() can be counted",
        ),
        (
            Unreachable(),
            {"at": AfterSent(1)},
            ValueError,
            "contradicts itself: who is refused has sent nothing to here; leave out at=",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    sockets: Sockets, effect: Any, how: Any, kind: type[Exception], text: str
) -> None:
    peer = sockets.udp_peer(name="peer")
    with pytest.raises(kind) as caught:
        peer.fault(effect, **how)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert told(peer) == []


@pytest.mark.parametrize("name", ["path", "abstract"])
def test_nothing_but_udp_can_refuse(sockets: Sockets, name: str) -> None:
    peer = PEERS[name](sockets)
    with pytest.raises(UnsupportedError, match=r"peer cannot have Unreachable\(\): ICMP says it"):
        peer.fault(Unreachable())


def test_a_closed_peer_can_have_no_fault(sockets: Sockets) -> None:
    peer = sockets.udp_peer(name="peer")
    peer.close()
    with pytest.raises(Exception, match="peer is closed: use it before close"):
        peer.fault(Drop())
