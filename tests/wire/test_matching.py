from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets._wire.matching import (
    Claim,
    Contains,
    Equals,
    Matches,
    Verdict,
    Whole,
    as_bytes,
    as_expectation,
    claim,
    matches,
    pairing,
    show_expected,
)
from wire_samples import STEADY, CountingLog, log_of

TRUE, FALSE, OPEN = Verdict.TRUE, Verdict.FALSE, Verdict.OPEN
WORDS = st.text("ab", max_size=5).map(str.encode)
PATTERNS = [b"a", b"ab", b"^ab", b"b$", b"a.b", b"(?!a)b+a", b"", b"c"]


class EndsWith:
    """An expectation with an `==` of its own."""

    def __init__(self, end: bytes) -> None:
        self.end = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and other.endswith(self.end)

    __hash__ = None  # type: ignore[assignment]  # as Python does for one with `==`

    def __repr__(self) -> str:
        return f"EndsWith({self.end!r})"


def whole_verdict(wanted: bytes, data: bytes) -> Verdict:
    if data == wanted:
        return TRUE
    return OPEN if wanted.startswith(data) else FALSE


def check_after_each(made: Claim, pieces: list[bytes], verdict: Callable[[bytes], Verdict]) -> None:
    """Judge after each piece: the answer depends on the bytes that are there, not on the cuts."""
    log = log_of()
    for piece in [b"", *pieces]:
        log.append(piece)
        assert made.judge(log) is verdict(log.read())
        assert made.judge(log) is verdict(log.read())


@settings(STEADY, max_examples=200)
@given(wanted=WORDS, pieces=st.lists(WORDS, max_size=6))
def test_a_whole_stream_is_judged_by_its_bytes_and_not_by_the_cuts(
    wanted: bytes, pieces: list[bytes]
) -> None:
    check_after_each(Whole(wanted), pieces, lambda data: whole_verdict(wanted, data))


@settings(STEADY, max_examples=200)
@given(wanted=WORDS.filter(bool), pieces=st.lists(WORDS, max_size=6))
def test_bytes_are_found_wherever_the_cuts_are(wanted: bytes, pieces: list[bytes]) -> None:
    check_after_each(
        Contains(wanted), pieces, lambda data: TRUE if data.find(wanted) >= 0 else OPEN
    )


@settings(STEADY, max_examples=200)
@given(source=st.sampled_from(PATTERNS), pieces=st.lists(WORDS, max_size=6))
def test_a_pattern_is_searched_in_all_that_is_there(source: bytes, pieces: list[bytes]) -> None:
    made = Matches(re.compile(source))
    check_after_each(made, pieces, lambda data: TRUE if re.search(source, data) else OPEN)


@settings(STEADY, max_examples=100)
@given(end=WORDS, pieces=st.lists(WORDS, max_size=6))
def test_an_object_is_compared_with_all_that_is_there(end: bytes, pieces: list[bytes]) -> None:
    check_after_each(
        Equals(EndsWith(end)), pieces, lambda data: TRUE if data.endswith(end) else OPEN
    )


@pytest.mark.parametrize("made", [Whole(b"x" * 3000), Contains(b"xy")])
def test_a_long_stream_is_looked_at_once(made: Claim) -> None:
    log = CountingLog()
    for _ in range(2000):
        log.append(b"x")
        assert made.judge(log) is OPEN
    assert log.looked_at <= 2 * log.size


@pytest.mark.parametrize(
    ("arguments", "kind", "wanted"),
    [
        ({"expected": b"ab"}, Whole, "b'ab'"),
        ({"expected": bytearray(b"ab")}, Whole, "b'ab'"),
        ({"expected": memoryview(b"ab")}, Whole, "b'ab'"),
        ({"expected": b""}, Whole, "b''"),
        ({"contains": b"ab"}, Contains, "b'ab' somewhere"),
        ({"contains": bytearray(b"ab")}, Contains, "b'ab' somewhere"),
        ({"expected": re.compile(rb"a\d")}, Matches, r"a match of b'a\\d'"),
        ({"expected": EndsWith(b"b")}, Equals, "something equal to EndsWith(b'b')"),
        ({"expected": ANY}, Equals, "something equal to <ANY>"),
    ],
)
def test_arguments_make_a_claim_that_can_name_itself(
    arguments: dict[str, Any], kind: type[Claim], wanted: str
) -> None:
    made = claim(**arguments)
    assert type(made) is kind
    assert made.wanted() == wanted


BOTH = "give either the expected bytes or contains=, and not both"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, BOTH),
        ({"expected": b"a", "contains": b"a"}, TypeError, BOTH),
        (
            {"contains": b""},
            ValueError,
            "contains=b'' is true of every stream: name the bytes that must occur",
        ),
        (
            {"expected": "PING\r\n"},
            TypeError,
            r"expected must be bytes, not str 'PING\r\n'; a socket carries bytes: "
            r"write b'PING\r\n'",
        ),
        (
            {"contains": "PING"},
            TypeError,
            "contains must be bytes, not str 'PING'; a socket carries bytes: write b'PING'",
        ),
        (
            {"expected": "grün"},
            TypeError,
            "expected must be bytes, not str 'grün'; a socket carries bytes: write 'grün'.encode()",
        ),
        ({"expected": None}, TypeError, "expected must be bytes, not NoneType None"),
        ({"expected": 5}, TypeError, "expected must be bytes, not int 5"),
        ({"expected": [b"a"]}, TypeError, "expected must be bytes, not list [b'a']"),
        ({"expected": 1.5}, TypeError, "expected must be bytes, not float 1.5"),
        ({"contains": [b"a"]}, TypeError, "contains must be bytes, not list [b'a']"),
        (
            {"expected": re.compile(r"a\d+")},
            TypeError,
            r"expected must be a bytes pattern: write re.compile(b'a\\d+')",
        ),
        (
            {"expected": re.compile("é")},
            TypeError,
            "expected must be a bytes pattern: write re.compile('é'.encode())",
        ),
    ],
)
def test_what_cannot_be_claimed_is_named_with_its_remedy(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        claim(**arguments)
    assert str(caught.value) == message


def test_the_remedy_for_a_text_pattern_is_the_same_pattern() -> None:
    with pytest.raises(TypeError, match="write ") as caught:
        as_expectation(re.compile(r"\d+\\x"))
    remedy = eval(str(caught.value).partition("write ")[2], {"re": re})
    assert remedy == re.compile(rb"\d+\\x")


def test_a_message_about_a_huge_value_stays_short() -> None:
    for value in ("x" * 10**6, [b"x"] * 10**5):
        with pytest.raises(TypeError) as caught:
            as_bytes(value, name="data")
        assert len(str(caught.value)) < 400
    assert show_expected([b"x"] * 10**5).endswith(" … (600,000 characters)")
    assert Equals([b"x"] * 10**5).wanted().endswith(" … (600,000 characters)")


@pytest.mark.parametrize(
    ("made", "actual", "lines"),
    [
        (
            Whole(b"PING 1\r\n"),
            b"PING 2\r\n",
            r"""
  expected  b'PING 1\r\n'
  received  b'PING 2\r\n'
  first difference at byte 5: expected 0x31 '1', received 0x32 '2'""",
        ),
        (
            Contains(b"PONG"),
            b"PING",
            """
  expected  b'PONG' somewhere
  received  b'PING'""",
        ),
        (
            Matches(re.compile(rb"\d")),
            b"PING",
            r"""
  expected  a match of b'\\d'
  received  b'PING'""",
        ),
        (
            Equals(EndsWith(b"!")),
            b"",
            """
  expected  something equal to EndsWith(b'!')
  received  b''""",
        ),
    ],
)
def test_a_claim_shows_itself_beside_what_came(made: Claim, actual: bytes, lines: str) -> None:
    log = log_of(actual)
    assert "\n" + made.explain(log, "received") == lines
    assert "\n" + made.explain(log, "sent") == lines.replace("received  b", "sent      b").replace(
        "received 0x", "sent 0x"
    )


@pytest.mark.parametrize("made", [Whole(b"xxxxY"), Contains(b"Y"), Matches(re.compile(b"Y"))])
def test_a_claim_shows_the_start_of_a_flood_and_reads_no_more(made: Claim) -> None:
    log = CountingLog()
    log.append(b"x" * 10_000_000)
    text = made.explain(log, "received")
    assert f"b'{'x' * 48}' … (bytes 0 to 48 of 10,000,000)" in text
    assert log.at_once <= 101


@pytest.mark.parametrize(
    ("expected", "data", "fits"),
    [
        (b"ab", b"ab", True),
        (b"ab", b"abc", False),
        (re.compile(b"a."), b"ab", True),
        (re.compile(b"a."), b"abc", False),
        (re.compile(b"b"), b"ab", False),
        (EndsWith(b"b"), b"ab", True),
        (EndsWith(b"b"), b"abc", False),
        (ANY, b"", True),
    ],
)
def test_a_frame_must_match_as_a_whole(expected: Any, data: bytes, fits: bool) -> None:
    assert matches(expected, data) is fits


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (b"a\n", r"b'a\n'"),
        (re.compile(rb"\d"), r"a full match of b'\\d'"),
        (EndsWith(b"b"), "EndsWith(b'b')"),
    ],
)
def test_an_expectation_is_named(expected: Any, text: str) -> None:
    assert show_expected(expected) == text


EXPECTATIONS = [b"", b"a", b"ab", re.compile(b"a.*"), re.compile(b".*b"), EndsWith(b"a"), ANY]


def most_pairs(expected: list[Any], actual: list[bytes]) -> int:
    """Return how many can be paired at most, by trying everything."""
    if not actual:
        return 0
    first, *rest = actual
    most = most_pairs(expected, rest)
    for slot, wanted in enumerate(expected):
        if matches(wanted, first):
            most = max(most, 1 + most_pairs(expected[:slot] + expected[slot + 1 :], rest))
    return most


@settings(STEADY, max_examples=400)
@given(
    expected=st.lists(st.sampled_from(EXPECTATIONS), max_size=5),
    actual=st.lists(st.sampled_from([b"", b"a", b"b", b"ab", b"ba", b"c"]), max_size=5),
)
def test_as_many_datagrams_are_paired_as_can_be(expected: list[Any], actual: list[bytes]) -> None:
    pairs = pairing(expected, actual)
    assert all(matches(expected[slot], actual[index]) for index, slot in pairs.items())
    assert len(set(pairs.values())) == len(pairs)
    assert len(pairs) == most_pairs(expected, actual)
    for index in range(len(actual)):  # the first that is left over is the first that fits none
        whole = most_pairs(expected, actual[: index + 1]) == index + 1
        assert whole == all(at in pairs for at in range(index + 1))


def test_thousands_of_equal_datagrams_are_paired() -> None:
    many = [b"x"] * 5000
    assert pairing(many, many) == {index: index for index in range(5000)}


def test_a_long_chain_of_patterns_is_paired() -> None:
    # Datagram i fits pattern i and i + 1, and the last one only the first pattern: all must move.
    count = 1050
    expected = [re.compile(b"%d|%d|last" % (at, at - 1)) for at in range(count)]
    expected[1:] = [re.compile(b"%d|%d" % (at, at - 1)) for at in range(1, count)]
    actual = [b"%d" % at for at in range(count - 1)] + [b"last"]
    pairs = pairing(expected, actual)
    assert pairs == {index: index + 1 for index in range(count - 1)} | {count - 1: 0}
