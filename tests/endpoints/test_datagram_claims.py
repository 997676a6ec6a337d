import re
import socket
import threading
from collections.abc import Iterator
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets import MismatchError, Settings, Sockets, UDPPeer, UnixDatagramPeer, WaitTimeout
from stream_ends import FOREVER, PATIENCE, Background

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def peer(sockets: Sockets) -> UDPPeer:
    return sockets.udp_peer()


@pytest.fixture
def client(peer: UDPPeer) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(peer.address)
        yield client


def test_exactly_these_in_this_order(peer: UDPPeer, client: socket.socket) -> None:
    peer.assert_received(timeout=0)
    for content in (b"one", b"two", b""):
        client.send(content)
    peer.assert_received(b"one", re.compile(rb"t.o"), b"", timeout=0)
    peer.assert_received(b"", b"two", b"one", any_order=True, timeout=0)


SOON: dict[str, tuple[tuple[Any, ...], dict[str, Any], list[bytes], str]] = {
    "wrong": ((b"a", b"b"), {}, [b"x"], r"datagram 0 is something else\n  expected  b'a'"),
    "wrong order": ((b"a", b"b"), {}, [b"b"], "datagram 0 is something else"),
    "pattern": ((re.compile(b"a+"), b"b"), {}, [b"aab"], r"expected  a full match of b'a\+'"),
    "only at first": ((re.compile(b"a+"),), {}, [b"aab"], "the beginning only, 2 of 3 bytes"),
    "object": ((Decimal(1), b"b"), {}, [b"a"], r"expected  Decimal"),
    "too many": ((b"a",), {}, [b"a", b"a"], "received more than 1 datagram\n  0: b'a'\n  1: b'a'"),
    "none expected": ((), {}, [b"a"], "received more than 0 datagrams"),
    "fits none": ((b"a", b"b"), {"any_order": True}, [b"x"], "fits none of those still expected"),
    "twice": ((b"a", b"b"), {"any_order": True}, [b"a", b"a"], "datagram 1 fits none of those st"),
    "too many, any": ((b"a",), {"any_order": True}, [b"a", b"b"], "received more than 1 datagram"),
}


WAITS = [case for case in SOON if not case.startswith(("too many", "none"))]  # others hold before


@pytest.mark.parametrize(
    ("case", "when"),
    [*((case, "before") for case in SOON), *((case, "while waiting") for case in WAITS)],
)
def test_a_claim_fails_at_the_first_datagram_that_does_not_fit(
    peer: UDPPeer, client: socket.socket, armed: threading.Semaphore, case: str, when: str
) -> None:
    payloads, options, sent, text = SOON[case]
    with Background() as pool:
        if when == "before":
            for content in sent:
                client.send(content)
        waiting = pool.submit(peer.assert_received, *payloads, **options, timeout=FOREVER)
        if when != "before":
            armed.acquire()
            for content in sent:
                client.send(content)
        with pytest.raises(MismatchError, match=text):
            waiting.result()


def test_a_deadline_names_what_is_missing(peer: UDPPeer, client: socket.socket) -> None:
    client.send(b"a")
    with pytest.raises(
        WaitTimeout,
        match=r"^udp_peer: waited 0 s for 2 datagrams, 1 came: b'b' is missing\n  0: b'a'$",
    ):
        peer.assert_received(b"a", b"b", timeout=0)
    with pytest.raises(WaitTimeout, match=r"waited 0 s for 2 datagrams, 1 came\n  0: b'a'$"):
        peer.assert_received(b"b", b"a", any_order=True, timeout=0)


def test_a_claim_waits_for_the_rest(
    peer: UDPPeer, client: socket.socket, armed: threading.Semaphore
) -> None:
    with Background() as pool:
        waits = [
            pool.submit(peer.assert_received, b"a", b"b", timeout=FOREVER),
            pool.submit(peer.assert_received, b"b", b"a", any_order=True, timeout=FOREVER),
            pool.submit(peer.assert_datagrams, 2, max_size=1, timeout=FOREVER),
            pool.submit(peer.wait_datagrams, 2, timeout=FOREVER),
        ]
        for _ in waits:
            armed.acquire()
        client.send(b"a")
        client.send(b"b")
        for waiting in waits:
            waiting.result()


@pytest.mark.parametrize("order", [*permutations([b"ab", b"a", b"b"])])
def test_overlapping_patterns_are_matched_whatever_the_order(
    peer: UDPPeer, client: socket.socket, order: tuple[bytes, ...]
) -> None:
    for content in order:
        client.send(content)
    # The first pattern fits all three, so the first fit is not always the right one.
    patterns = [re.compile(rb"[ab]+"), re.compile(rb"a?b"), re.compile(rb"ab?")]
    peer.assert_received(*patterns, any_order=True, timeout=0)
    with pytest.raises(MismatchError, match="fits none of those still expected"):
        peer.assert_received(re.compile(rb"a"), re.compile(rb"a"), b"b", any_order=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    payloads=st.lists(st.binary(max_size=3), max_size=6),
    data=st.data(),
)
def test_any_order_is_any_order(payloads: list[bytes], data: st.DataObject) -> None:
    claimed = data.draw(st.permutations(payloads))
    wrong = data.draw(st.booleans())
    if wrong:
        claimed = [*claimed, data.draw(st.binary(max_size=3))]
    with UnixDatagramPeer(settings=Settings(timeout=PATIENCE)) as peer:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            for content in payloads:
                client.sendto(content, peer.address)
        if wrong:
            with pytest.raises(WaitTimeout):
                peer.assert_received(*claimed, any_order=True, timeout=0)
        else:
            peer.assert_received(*claimed, any_order=True, timeout=0)


# -- counting


def test_assert_datagrams_is_exactly_and_wait_datagrams_at_least(
    peer: UDPPeer, client: socket.socket
) -> None:
    peer.assert_datagrams(0, timeout=0)
    peer.wait_datagrams(0, timeout=0)
    client.send(b"a")
    client.send(b"bc")
    peer.wait_datagrams(1, timeout=0)
    peer.assert_datagrams(2, max_size=2, timeout=0)
    with pytest.raises(MismatchError, match="received 2 datagrams, expected 1\n  0: b'a'"):
        peer.assert_datagrams(1, timeout=FOREVER)
    with pytest.raises(WaitTimeout, match=r"^udp_peer: waited 0 s for 3 datagrams, 2 came$"):
        peer.assert_datagrams(3, timeout=0)
    with pytest.raises(WaitTimeout, match=r"^udp_peer: waited 0 s for 3 datagrams, 2 came$"):
        peer.wait_datagrams(3, timeout=0)


@pytest.mark.parametrize("when", ["before", "while waiting"])
def test_a_datagram_that_is_too_large_fails_at_once(
    peer: UDPPeer, client: socket.socket, armed: threading.Semaphore, when: str
) -> None:
    with Background() as pool:
        if when == "before":
            client.send(b"abc")
        waiting = pool.submit(peer.assert_datagrams, 2, max_size=2, timeout=FOREVER)
        if when != "before":
            armed.acquire()
            client.send(b"abc")
        with pytest.raises(MismatchError, match="datagram 0 has 3 bytes, more than 2: b'abc'"):
            waiting.result()


def test_nothing_received_means_nothing_before_the_call(
    peer: UDPPeer, client: socket.socket
) -> None:
    peer.assert_nothing_received()
    client.send(b"")
    with pytest.raises(MismatchError, match="received 1 datagram, expected none\n  0: b''"):
        peer.assert_nothing_received()


def test_a_long_list_is_cut(peer: UDPPeer, client: socket.socket) -> None:
    for number in range(20):
        client.send(b"%d" % number)
    with pytest.raises(MismatchError, match=r"(?s)7: b'7'\n  … and 12 more$"):
        peer.assert_datagrams(1)
