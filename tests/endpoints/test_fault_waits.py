"""What one who sends waits for beside faults: that the kernel has all, unless one keeps it back."""

import contextlib
import socket
import threading

import pytest

from fault_ends import read_exactly, read_to_the_end
from pytest_sockets import Sockets, WaitTimeout
from pytest_sockets._engine.clock import Deadline
from pytest_sockets.faults import (
    AfterSent,
    BeforeSend,
    Corrupt,
    Delay,
    Effect,
    HalfClose,
    Inject,
    Moment,
    Slice,
    Stall,
    Throttle,
)
from stream_ends import FOREVER, PATIENCE, Background

pytestmark = pytest.mark.timeout(120)

LARGE = bytes(16_000_000)
"""More than the kernel takes from one side while the other does not read."""
CONTENT = b"hello" + b"x" * 995


# -- what a fault puts in is not what was sent


@pytest.mark.parametrize(
    ("at", "taken"), [(BeforeSend(), 0), (AfterSent(0), 0), (AfterSent(5), 5)], ids=repr
)
def test_what_is_put_in_before_it_is_not_taken_for_what_was_sent(
    sockets: Sockets, at: Moment, taken: int
) -> None:
    sock, peer = sockets.tcp_socket_pair()
    peer.endpoint.fault(Inject(LARGE), at=at)
    with pytest.raises(WaitTimeout, match=f"the kernel took {taken} of 1,000 bytes"):
        peer.send(CONTENT, timeout=0)
    with pytest.raises(WaitTimeout, match=f"the kernel took 0 of {1000 - taken:,} bytes"):
        peer.close(timeout=0)
    came = CONTENT[:taken] + LARGE + CONTENT[taken:]
    sock.settimeout(PATIENCE)
    assert read_to_the_end(sock) == (came, "EOF")


def test_what_is_put_in_behind_it_is_not_waited_for(sockets: Sockets) -> None:
    sock, peer = sockets.tcp_socket_pair()
    peer.endpoint.fault(Inject(LARGE), at=AfterSent(1000))
    peer.send(CONTENT, timeout=0)
    assert peer._stream.queued > 0
    assert read_exactly(sock, 1000) == CONTENT


# -- what is put in after something was lost


def test_what_the_kernel_refuses_leaves_the_next_its_place(sockets: Sockets) -> None:
    pair = sockets.socket_pair("seqpacket")
    with pytest.raises(OSError, match="too long"):
        pair.fault(Inject(bytes(1_000_000)), must_hit=False)
    pair.fault(Inject(b"short"))
    pair.peer.send(b"own")
    assert [pair.socket.recv(100), pair.socket.recv(100)] == [b"short", b"own"]


def test_what_was_dropped_leaves_the_next_its_place(sockets: Sockets) -> None:
    pair = sockets.tcp_socket_pair()
    stall = pair.fault(Stall())
    pair.fault(Inject(b"dropped"))
    pair.fault(HalfClose())
    with pair._lock:  # else the EOF that the stall has kept back goes out first
        stall.lift()
        pair.fault(Inject(b"last words"))
    pair.socket.settimeout(PATIENCE)
    pair.socket.shutdown(socket.SHUT_WR)
    assert read_to_the_end(pair.socket) == (b"last words", "EOF")


def test_what_follows_something_dropped_counts_for_itself(sockets: Sockets) -> None:
    pair = sockets.tcp_socket_pair()
    with pair.fault(Stall()):
        pair.fault(Inject(LARGE))
        pair.peer.send(b"kept back")
        assert (pair.peer._stream.own_queued, pair.peer._stream.own_taken) == (9, 0)
        pair.peer._stream.drop()
        assert pair.peer._stream.own_queued == 0
    pair.peer.send(b"sent")
    assert pair.peer._stream.own_taken == 4


# -- what a delay keeps back


def test_bytes_whose_time_has_come_wait_for_the_peer(sockets: Sockets) -> None:
    sock, peer = sockets.tcp_socket_pair()
    peer.endpoint.fault(Delay(0.001))
    with contextlib.suppress(WaitTimeout):  # the time may have come before it looks
        peer.send(LARGE, timeout=0)
    peer.assert_sent(contains=b"\0")
    with peer.endpoint._lock:
        assert peer._stream.queued > 0
        assert peer._stream.under_way == 0
    peer.endpoint.fault(Delay(3600.0))
    with peer.endpoint._lock:
        assert peer._stream.under_way == peer._stream.queued
    sock.close()


def test_a_delay_looks_once_at_each_piece(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, remaining = 0, Deadline.remaining

    def look(self: Deadline) -> float:
        nonlocal looks
        looks += self.timeout == 0.25
        return remaining(self)

    monkeypatch.setattr(Deadline, "remaining", look)
    sock, peer = sockets.tcp_socket_pair()
    with peer.endpoint.fault(Delay(0.25)):
        for _ in range(1000):
            peer.send(b"x")
        assert read_exactly(sock, 1000) == b"x" * 1000
    assert looks < 10_000


# -- whom it waits for: the peer, or a fault


@pytest.mark.parametrize(
    "effect", [Throttle(1e12), Slice(10_000_000), Delay(0.001), Corrupt()], ids=repr
)
def test_a_fault_that_keeps_nothing_back_spares_nobody_the_wait_for_the_peer(
    sockets: Sockets, effect: Effect
) -> None:
    sock, peer = sockets.tcp_socket_pair()
    peer.endpoint.fault(effect)
    with contextlib.suppress(WaitTimeout):
        peer.send(LARGE, timeout=0)
    peer.assert_sent(contains=b"\0")
    with pytest.raises(WaitTimeout, match="the kernel took 0 of 1,000 bytes"):
        peer.send(CONTENT, timeout=0)
    sock.close()


def test_a_boundary_that_has_been_made_spares_nobody_either(sockets: Sockets) -> None:
    sock, peer = sockets.tcp_socket_pair()
    peer.endpoint.fault(Slice(), at=AfterSent(5))
    peer.send(b"hello", timeout=0)
    peer.send(b"x", timeout=0)  # kept back for as long as the first is unread
    assert [sock.recv(100), sock.recv(100)] == [b"hello", b"x"]
    with pytest.raises(WaitTimeout):
        peer.send(LARGE, timeout=0)


def test_a_send_that_waits_for_the_peer_returns_when_a_fault_begins_to_keep_it_back(
    sockets: Sockets, armed: threading.Semaphore
) -> None:
    sock, peer = sockets.tcp_socket_pair()
    peer.endpoint.fault(Slice(10_000_000))
    with Background() as pool:
        sending = pool.submit(peer.send, LARGE, timeout=FOREVER)
        assert armed.acquire(timeout=PATIENCE)
        read_exactly(sock, 9_000_000)  # the first piece finds room then, and lies unread
        sending.result()
    assert len(peer.sent) == 10_000_000


def test_a_close_waits_for_the_peer_again_when_what_kept_it_back_is_lifted(
    sockets: Sockets,
) -> None:
    sock, peer = sockets.tcp_socket_pair()
    stall = peer.endpoint.fault(Stall())
    peer.send(LARGE, timeout=0)
    stall.lift()
    with pytest.raises(WaitTimeout):
        peer.close(timeout=0)
    sock.close()
