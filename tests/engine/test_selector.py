"""What asyncio asks of a selector is judged beside the standard library's; the rest is ours."""

import os
import selectors
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pytest_sockets._engine.selector import READ, WRITE, EpollSelector

IMPLEMENTATIONS: list[Callable[[], selectors.BaseSelector]] = [
    selectors.EpollSelector,
    EpollSelector,
]
BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


@pytest.fixture(params=IMPLEMENTATIONS, ids=["stdlib", "ours"])
def selector(request: pytest.FixtureRequest) -> Iterator[selectors.BaseSelector]:
    with request.param() as selector:
        yield selector


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


Pair = tuple[socket.socket, socket.socket]


def ready(selector: selectors.BaseSelector) -> list[tuple[object, int]]:
    return [(key.data, events) for key, events in selector.select(0)]


@pytest.mark.parametrize("by_number", [True, False], ids=["number", "object"])
def test_a_registration_can_be_looked_up_changed_and_removed(
    selector: selectors.BaseSelector, pair: Pair, by_number: bool
) -> None:
    left, right = pair
    what = left.fileno() if by_number else left
    key = selector.register(what, selectors.EVENT_READ, "data")
    assert key == (what, left.fileno(), selectors.EVENT_READ, "data")
    for name in (left, left.fileno()):
        assert selector.get_key(name) == selector.get_map()[name] == key
        assert selector.get_map().get(name) == key
        assert name in selector.get_map()
    assert ready(selector) == []
    right.send(b"x")
    assert ready(selector) == [("data", selectors.EVENT_READ)]
    assert selector.modify(left, selectors.EVENT_WRITE, "other").data == "other"
    assert ready(selector) == [("other", selectors.EVENT_WRITE)]
    assert selector.modify(what, BOTH, "both").events == BOTH
    assert ready(selector) == [("both", BOTH)]
    assert selector.modify(what, BOTH, "again").data == "again"
    assert ready(selector) == [("again", BOTH)]
    assert len(selector.get_map()) == 1
    assert selector.unregister(left).data == "again"
    assert ready(selector) == []
    assert list(selector.get_map()) == []


def test_a_second_registration_and_an_unknown_one_are_refused(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, right = pair
    selector.register(left, selectors.EVENT_READ)
    refused: list[Callable[[], object]] = [
        partial(selector.register, left.fileno(), selectors.EVENT_WRITE),
        partial(selector.unregister, right),
        partial(selector.modify, right, BOTH),
        partial(selector.get_key, right),
    ]
    for action in refused:
        with pytest.raises(KeyError):
            action()
    assert selector.get_map().get(right) is None
    assert right not in selector.get_map()
    assert len(selector.get_map()) == 1


def test_a_descriptor_closed_before_it_was_unregistered_leaves_nothing(
    selector: selectors.BaseSelector,
) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    selector.register(left, selectors.EVENT_READ, "old")
    left.close()
    right.close()
    assert ready(selector) == []
    assert selector.unregister(left).data == "old"
    left, right = socket.socketpair()
    with left, right:
        assert number in (left.fileno(), right.fileno())
        selector.register(number, selectors.EVENT_WRITE, "new")
        assert ready(selector) == [("new", selectors.EVENT_WRITE)]


def test_a_number_that_was_closed_can_be_unregistered(selector: selectors.BaseSelector) -> None:
    reading, writing = os.pipe()
    selector.register(reading, selectors.EVENT_READ, "old")
    os.close(reading)
    os.close(writing)
    assert selector.unregister(reading).data == "old"
    with pytest.raises(KeyError):
        selector.unregister(reading)


def test_a_hang_up_is_told_to_those_who_asked_for_anything(
    selector: selectors.BaseSelector, pair: Pair
) -> None:
    left, right = pair
    selector.register(left, selectors.EVENT_READ)
    right.close()
    assert ready(selector) == [(None, selectors.EVENT_READ)]
    selector.modify(left, BOTH)
    assert ready(selector) == [(None, BOTH)]


@pytest.mark.parametrize("timeout", [0, -1, 1e-9, 0.001])
def test_select_returns_when_its_time_is_over(
    selector: selectors.BaseSelector, timeout: float
) -> None:
    assert selector.select(timeout) == []


# -- our own sources


class Counting:
    """A source that reads what is there."""

    turns = 10

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.seen: list[int] = []
        self.errors: list[Exception] = []
        self.act: Callable[[], object] = lambda: sock.recv(100)

    def on_ready(self, events: int) -> None:
        self.seen.append(events)
        self.act()

    def on_failure(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
def ours() -> Iterator[EpollSelector]:
    with EpollSelector() as selector:
        yield selector


def test_a_source_is_served_inside_select_and_inside_pump(ours: EpollSelector, pair: Pair) -> None:
    left, right = pair
    source = Counting(left)
    ours.add(left.fileno(), source)
    right.send(b"x")
    assert ours.select(0) == []
    assert source.seen == [READ]
    right.send(b"x")
    ours.pump()
    assert source.seen == [READ, READ]
    ours.pump()
    ours.change(left.fileno(), WRITE)
    ours.select(0)
    assert source.seen == [READ, READ, WRITE]
    ours.remove(left.fileno())
    ours.remove(left.fileno())
    right.send(b"x")
    ours.select(0)
    assert len(source.seen) == 3


def test_sources_and_registrations_live_side_by_side(ours: EpollSelector, pair: Pair) -> None:
    left, right = pair
    source = Counting(left)
    ours.add(left.fileno(), source)
    ours.register(right, BOTH, "asyncio's")
    left.send(b"x")
    right.send(b"x")
    ours.pump()  # leaves asyncio's alone, and does not wait for it to be served
    assert source.seen == [READ]
    assert ready(ours) == [("asyncio's", BOTH)]


def test_a_source_that_raises_is_told_and_the_others_are_served(
    ours: EpollSelector, pair: Pair
) -> None:
    sources = [Counting(sock) for sock in pair]
    sources[0].act = lambda: 1 / 0
    for source in sources:
        ours.add(source.sock.fileno(), source)
        source.sock.send(b"x")
    ours.select(0)
    assert [len(source.seen) for source in sources] == [1, 1]
    assert [list(map(type, source.errors)) for source in sources] == [[ZeroDivisionError], []]


def test_pump_leaves_a_source_that_is_always_ready(ours: EpollSelector, pair: Pair) -> None:
    left, right = pair
    busy, quiet = Counting(left), Counting(right)
    busy.act = lambda: None
    ours.add(left.fileno(), busy, WRITE)
    ours.add(right.fileno(), quiet)
    left.send(b"x")
    ours.pump()
    assert len(busy.seen) == busy.turns
    assert quiet.seen == [READ]


def test_pump_serves_more_sources_than_one_poll_returns(
    ours: EpollSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_sockets._engine.selector.BATCH", 7)
    pairs = [socket.socketpair() for _ in range(100)]
    try:
        sources = [Counting(left) for left, _ in pairs]
        for source, (left, right) in zip(sources, pairs, strict=True):
            ours.add(left.fileno(), source)
            right.send(b"x" * 150)
        ours.pump()
        assert [len(source.seen) for source in sources] == [2] * 100
    finally:
        for ends in pairs:
            for sock in ends:
                sock.close()


def test_a_number_reused_between_poll_and_dispatch_asks_its_new_owner(
    ours: EpollSelector, pair: Pair
) -> None:
    left, right = pair
    sources = [Counting(left), Counting(right)]
    fresh: list[Counting] = []

    def swap() -> None:
        # Both were ready in the same poll; whichever is served first closes the other.
        victim = sources[1] if sources[0].seen else sources[0]
        number = victim.sock.fileno()
        ours.remove(number)
        victim.sock.close()
        new = socket.socket(fileno=os.dup2(spare.fileno(), number))
        new.setblocking(False)
        fresh.append(Counting(new))
        ours.add(number, fresh[0])

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
        for source in sources:
            source.act = swap
            ours.add(source.sock.fileno(), source, READ | WRITE)
            source.sock.send(b"x")
        ours.select(0)
        with fresh[0].sock:
            assert sorted(len(source.seen) for source in sources) == [0, 1]
            assert len(fresh[0].seen) == 1
            assert list(map(type, fresh[0].errors)) == [BlockingIOError]


def test_a_descriptor_that_somebody_closed_can_be_removed(ours: EpollSelector) -> None:
    left, right = socket.socketpair()
    with right:
        number = left.fileno()
        ours.add(number, Counting(left))
        left.close()
        ours.remove(number)
        ours.select(0)


def test_a_descriptor_that_cannot_be_served_is_not_remembered(
    ours: EpollSelector, pair: Pair, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(PermissionError):  # epoll takes no plain files
            ours.add(file.fileno(), Counting(pair[0]))
        assert ours._sources == {}
