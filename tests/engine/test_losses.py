"""Datagrams wait in a large buffer to be read, and what is lost all the same is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from losing import filter_out, memory_of, plain_socket, shrink
from pytest_sockets import EndpointError, Settings, UDPPeer
from pytest_sockets._engine import losses
from pytest_sockets._engine.datagrams import TURN
from pytest_sockets._engine.losses import ROOM
from stream_ends import PATIENCE, family_of
from told import told

PATIENT = Settings(timeout=PATIENCE)

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("untold")]


@pytest.fixture(params=["ipv4", "ipv6"])
def peer(request: pytest.FixtureRequest) -> Iterator[UDPPeer]:
    peer = UDPPeer(family=request.param, name="peer", settings=PATIENT)
    yield peer
    peer.close()


@pytest.fixture
def sender(peer: UDPPeer) -> Iterator[socket.socket]:
    with socket.socket(family_of(peer.address), socket.SOCK_DGRAM) as sender:
        sender.connect(peer.address)
        yield sender


def send(sender: socket.socket, number: int) -> None:
    for index in range(number):
        sender.send(b"%08d" % index)


# -- room


def most() -> int:
    """Return how large a receive buffer this machine grants to everybody (socket(7))."""
    with open("/proc/sys/net/core/rmem_max") as limit:
        return min(ROOM, int(limit.read())) * 2


def granted(number: int) -> int:
    """Return the receive buffer of a plain socket that was asked for with an option."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, number, ROOM)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_a_socket_has_as_much_room_as_the_kernel_grants(peer: UDPPeer) -> None:
    try:
        wanted = granted(33)  # SO_RCVBUFFORCE, for a process with CAP_NET_ADMIN
    except PermissionError:
        wanted = most()
    assert memory_of(peer._sockets[0])[1] == wanted


def test_without_permission_it_is_as_much_as_everybody_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(losses, "_SO_RCVBUFFORCE", 9999)  # the kernel refuses, as without it
    with UDPPeer(settings=PATIENT) as peer:
        assert memory_of(peer._sockets[0])[1] == most() == granted(socket.SO_RCVBUF)


def test_a_burst_that_the_default_cannot_hold_is_recorded(
    peer: UDPPeer, sender: socket.socket
) -> None:
    number, size = 150, 1000
    with peer._lock:  # nobody reads meanwhile
        sender.send(bytes(size))
        needed = memory_of(peer._sockets[0])[0] * (number + 1)
        if most() < needed:
            pytest.skip(f"net.core.rmem_max leaves {most()} bytes, and {needed} are needed")
        for _ in range(number - 1):
            sender.send(bytes(size))
    peer.assert_datagrams(number, max_size=size)
    assert told(peer) == []


# -- losses


def test_a_loss_is_told_with_its_number(peer: UDPPeer, sender: socket.socket) -> None:
    [part] = peer._sockets
    with peer._lock:
        shrink(part)
        room = memory_of(part)[1]
        send(sender, 50)
    kept = len(peer.received)
    assert 0 < kept < 50
    assert told(peer) == [
        f"EndpointError: peer has lost {50 - kept} datagrams that its record lacks now: the kernel "
        "drops what comes faster than it can be read once the receive buffer "
        f"({room:,} bytes) is full; send fewer at once, let the sender wait for answers, or raise "
        "net.core.rmem_max"
    ]


def test_what_is_lost_from_the_largest_buffer_has_no_other_cure() -> None:
    assert losses.Loss(1, 2 * ROOM).why.endswith(
        "(16,777,216 bytes) is full; send fewer at once, or let the sender wait for answers"
    )


def test_a_loss_before_the_end_is_told(peer: UDPPeer, sender: socket.socket) -> None:
    with peer._lock:
        shrink(peer._sockets[0])
        send(sender, 50)
        peer.close()
    kept = len(peer.received)
    with pytest.raises(EndpointError, match=f"^peer has lost {50 - kept} datagrams that"):
        peer.assert_datagrams(kept)


def test_a_loss_that_leaves_nothing_to_read_is_told(peer: UDPPeer, sender: socket.socket) -> None:
    filter_out(peer._sockets[0])
    send(sender, 1)
    with pytest.raises(EndpointError, match=r"^peer has lost 1 datagram that"):
        peer.assert_nothing_received()


def test_losses_that_follow_are_notes(peer: UDPPeer, sender: socket.socket) -> None:
    [part] = peer._sockets
    with peer._lock:
        shrink(part)
        for number in (10, 20, 30):
            before = peer._datagrams.received_chunks
            send(sender, number)
            part._receive(TURN)
            part.look_for_losses()
            lost = number - (peer._datagrams.received_chunks - before)
    notes = [event.note for event in peer.transcript if event.kind == "note"]
    assert len(notes) == 2
    assert notes[1] == f"lost unread: {lost} datagrams more"
    assert len(told(peer)) == 1


def test_nothing_is_lost_that_was_never_to_come(peer: UDPPeer, sender: socket.socket) -> None:
    [part] = peer._sockets
    room = memory_of(part)
    part.refuse()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            send(sender, 2)
    part.take_again()
    sender.send(b"now")
    assert peer.received == [b"now"]
    assert told(peer) == []
    assert memory_of(part) == room


def test_a_loss_before_a_refusal_is_told(peer: UDPPeer, sender: socket.socket) -> None:
    [part] = peer._sockets
    with peer._lock:
        shrink(part)
        send(sender, 50)
        part._receive(TURN)
        part.refuse()
        part.take_again()
    (problem,) = told(peer)
    assert f"has lost {50 - len(peer.received)} datagrams" in problem
    assert "note" not in [event.kind for event in peer.transcript]  # the new one begins at 0


def test_the_counter_may_overflow() -> None:
    class Counting:
        def getsockopt(self, *_: int) -> bytes:
            return losses._MEMINFO.pack(2304, drops)

    counting = losses.Losses()
    sock: Any = Counting()
    drops = 2**32 - 2
    counting.look(sock)
    drops = 3
    assert counting.look(sock) == losses.Loss(5, 2304)
    assert counting.look(sock) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("_SO_MEMINFO", 9999), ("_SO_MEMINFO", socket.SO_RCVBUF), ("_IS_GENERIC", False)],
    ids=["unknown option", "another option", "other numbers"],
)
def test_a_kernel_that_does_not_count_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(losses, name, value)
    with (
        UDPPeer(settings=PATIENT) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(peer.address)
        [part] = peer._sockets
        assert plain_socket(part).getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= most()
        with peer._lock:
            shrink(part)
            send(sender, 50)
        assert 0 < len(peer.received) < 50
        assert not part._losses._is_told
        assert told(peer) == []
