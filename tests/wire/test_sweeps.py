from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_sockets
from pytest_sockets import cuts, faults, splits
from pytest_sockets._wire.sweeps import shares, spread
from wire_samples import STEADY

REPLY = b"HELLO"


def test_a_reply_can_be_cut_off_before_each_of_its_bytes() -> None:
    assert cuts(REPLY) == (0, 1, 2, 3, 4)
    assert cuts(b"x") == (0,)
    assert all(type(cut) is int for cut in cuts(REPLY))


def test_a_reply_can_be_split_between_each_two_of_its_bytes() -> None:
    assert splits(REPLY) == (
        (b"H", b"ELLO"),
        (b"HE", b"LLO"),
        (b"HEL", b"LO"),
        (b"HELL", b"O"),
    )


def test_what_is_like_bytes_is_cut_as_bytes() -> None:
    assert cuts(bytearray(REPLY)) == cuts(memoryview(REPLY)) == cuts(REPLY)
    assert [type(piece) for piece in splits(bytearray(b"ab"))[0]] == [bytes, bytes]


def test_a_split_has_a_short_name_and_is_a_tuple_otherwise() -> None:
    first, *_, last = splits(REPLY)

    assert getattr(first, "__name__", None) == "at-1"
    assert getattr(last, "__name__", None) == "at-4"
    assert hash(first) == hash((b"H", b"ELLO"))
    head, tail = first
    assert head + tail == REPLY
    with pytest.raises(AttributeError):
        first.extra = 1  # type: ignore[attr-defined]  # that it has no such attribute is the test


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_split_survives_copies_and_pickling(again: Callable[[Any], Any]) -> None:
    split = splits(REPLY)[2]

    assert again(split) == split
    assert type(again(split)) is type(split)
    assert again(split).__name__ == "at-3"


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (2, (0, 99)),
        (3, (0, 49, 99)),
        (5, (0, 24, 49, 74, 99)),
        (100, tuple(range(100))),
        (1_000, tuple(range(100))),
        (None, tuple(range(100))),
    ],
)
def test_of_a_long_reply_most_are_spread_evenly(
    most: int | None, expected: tuple[int, ...]
) -> None:
    reply = bytes(100)
    assert cuts(reply, most=most) == expected
    assert [len(head) for head, _ in splits(reply + b"\0", most=most)] == [n + 1 for n in expected]


@settings(STEADY)
@given(st.integers(1, 500), st.integers(2, 500))
def test_spread_numbers_grow_from_the_first_to_the_last(total: int, most: int) -> None:
    numbers = spread(total, most)

    assert len(numbers) == min(total, most)
    assert numbers[0] == 0
    assert numbers[-1] == total - 1
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    assert max(steps, default=1) - min(steps, default=1) <= 1
    assert min(steps, default=1) >= 1


@settings(STEADY)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=30), st.integers(2, 400))
def test_shares_stay_below_the_limit_and_use_it(sizes: list[int], most: int) -> None:
    taken = shares(sizes, most)

    assert len(taken) == len(sizes)
    assert all(0 <= share <= size for share, size in zip(taken, sizes, strict=True))
    assert sum(taken) == min(sum(sizes), most)
    for each in (1, 2):
        least = [min(size, each) for size in sizes]
        has_room = sum(least) <= most
        for share, at_least in zip(taken, least, strict=True):
            assert share >= at_least if has_room else share <= at_least


def test_shares_are_in_proportion() -> None:
    assert shares([1_000, 100, 1], 103) == [91, 11, 1]


def test_where_there_is_no_room_for_two_of_each_some_get_a_second() -> None:
    assert shares([10, 10, 10], 5) == [1, 2, 2]
    assert shares([10, 0, 10, 10, 10], 2) == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: cuts(b""), ValueError, "reply is b'': nothing of it can be cut off"),
        (
            lambda: splits(b""),
            ValueError,
            "reply is b'': it takes two bytes to make two pieces",
        ),
        (lambda: splits(b"x"), ValueError, "reply is b'x': it takes two bytes"),
        (
            lambda: cuts("OK"),  # type: ignore[arg-type]  # the mistake that is made
            TypeError,
            "reply must be bytes, not str 'OK'; a socket carries bytes: write b'OK'",
        ),
        (
            lambda: splits(5),  # type: ignore[arg-type]  # the mistake that is made
            TypeError,
            "reply must be bytes, not int 5",
        ),
        (
            lambda: cuts(b"OK", most=1),
            ValueError,
            "most must be at least 2, not 1: the first and the last place are always taken",
        ),
        (lambda: splits(b"OK", most=0), ValueError, "most must be"),
        (
            lambda: cuts(b"OK", most=2.5),  # type: ignore[arg-type]  # the mistake that is made
            TypeError,
            "most must be",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    call: Callable[[], object], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_both_are_found_beside_the_effects_too() -> None:
    assert {"cuts", "splits"} <= set(faults.__all__)
    assert faults.cuts is pytest_sockets.cuts
    assert faults.splits is pytest_sockets.splits
