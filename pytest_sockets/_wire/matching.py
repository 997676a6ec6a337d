"""What may be expected of bytes, and whether it is true, false or still open."""

from __future__ import annotations

import enum
import re
from collections import deque
from typing import Any, Protocol, cast

from pytest_sockets._wire.rendering import WINDOW, show, show_difference, show_log, show_value
from pytest_sockets._wire.spool import ByteLog

NEVER_EQUAL = (str, int, float, bytearray, memoryview, tuple, list, set, frozenset, dict)
"""What is taken for an expectation by mistake; `as_bytes` turns the bytes-like into bytes."""


class Verdict(enum.Enum):
    """What can be said of a claim now."""

    TRUE = enum.auto()
    FALSE = enum.auto()
    OPEN = enum.auto()


class Claim(Protocol):
    """A claim about all bytes of one direction. It remembers how far it has looked."""

    def judge(self, log: ByteLog) -> Verdict:
        """Say whether the claim holds for what is there, or could hold if more came."""
        ...

    def wanted(self) -> str:
        """Name what is claimed."""
        ...

    def explain(self, log: ByteLog, verb: str) -> str:
        """Return lines that show what was claimed beside what is there."""
        ...


def as_bytes(value: object, *, name: str) -> bytes:
    """Return a bytes-like value as `bytes`, or say what is wrong with it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(cast("bytearray | memoryview[int]", value))
    hint = f"; a socket carries bytes: write {_as_literal(value)}" if isinstance(value, str) else ""
    msg = f"{name} must be bytes, not {type(value).__name__} {show_value(value)}{hint}"
    raise TypeError(msg)


def _as_literal(text: str) -> str:
    """Return how to write a text as bytes."""
    if len(text) > WINDOW:
        return "b'…'"
    return f"b{text!r}" if text.isascii() else f"{text!r}.encode()"


def as_expectation(value: object, *, name: str = "expected") -> Any:
    """Return `value` if it can be compared with bytes, or say what is wrong with it."""
    if isinstance(value, re.Pattern):
        source: object = cast("Any", value).pattern
        if isinstance(source, str):
            msg = f"{name} must be a bytes pattern: write re.compile({_as_literal(source)})"
            raise TypeError(msg)
        return cast("Any", value)
    if isinstance(value, NEVER_EQUAL) or value is None:
        return as_bytes(cast("object", value), name=name)
    return value


def matches(expected: Any, data: bytes) -> bool:
    """Whether a whole frame or datagram is what was expected; a pattern must fullmatch."""
    if isinstance(expected, re.Pattern):
        return cast("re.Pattern[bytes]", expected).fullmatch(data) is not None
    return bool(expected == data)


def show_expected(expected: Any) -> str:
    """Name an expectation in a message."""
    if isinstance(expected, bytes):
        return show(expected)
    if isinstance(expected, re.Pattern):
        return f"a full match of {cast('re.Pattern[bytes]', expected).pattern!r}"
    return show_value(expected)


class Whole:
    """The whole stream is exactly these bytes."""

    def __init__(self, expected: bytes) -> None:
        self._expected = expected
        self._equal = 0

    def judge(self, log: ByteLog) -> Verdict:
        if log.size > len(self._expected):
            return Verdict.FALSE
        fresh = log.read(self._equal)
        if fresh != self._expected[self._equal : log.size]:
            return Verdict.FALSE
        self._equal = log.size
        if self._equal == len(self._expected):
            return Verdict.TRUE
        return Verdict.OPEN

    def wanted(self) -> str:
        return show(self._expected)

    def explain(self, log: ByteLog, verb: str) -> str:
        # All that can differ, and what a message shows behind it.
        actual = log.read(0, len(self._expected) + 2 * WINDOW)
        return show_difference(self._expected, actual, verb, total=log.size)


class _Lines:
    def wanted(self) -> str:
        raise NotImplementedError

    def explain(self, log: ByteLog, verb: str) -> str:
        return f"  expected  {self.wanted()}\n  {verb:<8}  {show_log(log)}"


class Contains(_Lines):
    """These bytes occur somewhere in the stream."""

    def __init__(self, expected: bytes) -> None:
        if not expected:
            msg = "contains=b'' is true of every stream: name the bytes that must occur"
            raise ValueError(msg)
        self._expected = expected
        self._searched = 0

    def judge(self, log: ByteLog) -> Verdict:
        if self._expected in log.read(self._searched):
            return Verdict.TRUE
        self._searched = max(0, log.size - len(self._expected) + 1)
        return Verdict.OPEN

    def wanted(self) -> str:
        return f"{show(self._expected)} somewhere"


class Matches(_Lines):
    """The pattern is found somewhere in the stream."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def judge(self, log: ByteLog) -> Verdict:
        if self._pattern.search(log.read()):
            return Verdict.TRUE
        return Verdict.OPEN

    def wanted(self) -> str:
        return f"a match of {self._pattern.pattern!r}"


class Equals(_Lines):
    """The whole stream is equal to an object with an `__eq__` of its own."""

    def __init__(self, expected: Any) -> None:
        self._expected = expected

    def judge(self, log: ByteLog) -> Verdict:
        if self._expected == log.read():
            return Verdict.TRUE
        return Verdict.OPEN

    def wanted(self) -> str:
        return f"something equal to {show_value(self._expected)}"


MISSING: Any = object()
"""Stands for an argument that was not given."""


def claim(expected: Any = MISSING, contains: object = MISSING) -> Claim:
    """Return the claim that the arguments of an `assert_received` make."""
    if (expected is MISSING) == (contains is MISSING):
        msg = "give either the expected bytes or contains=, and not both"
        raise TypeError(msg)
    if contains is not MISSING:
        return Contains(as_bytes(contains, name="contains"))
    expected = as_expectation(expected)
    if isinstance(expected, bytes):
        return Whole(expected)
    if isinstance(expected, re.Pattern):
        return Matches(cast("re.Pattern[bytes]", expected))
    return Equals(expected)


def pairing(expected: list[Any], actual: list[bytes]) -> dict[int, int]:
    """Match as many of `actual` as can be to one expectation each; return index to index.

    Bytes are looked up: nothing else fits where they do, so taking that place is never wrong. A
    pattern may fit several datagrams, so the first that fits is not always the right one:
    augmenting paths, as in bipartite matching, searched in breadth.
    """
    exact: dict[bytes, deque[int]] = {}
    loose: list[int] = []
    for slot, wanted in enumerate(expected):
        if isinstance(wanted, bytes):
            exact.setdefault(wanted, deque()).append(slot)
        else:
            loose.append(slot)
    found: dict[int, int] = {}
    rest: list[int] = []
    for index, data in enumerate(actual):
        if exact.get(data):
            found[index] = exact[data].popleft()
        else:
            rest.append(index)
    owner: dict[int, int] = {}
    for index in rest:
        asker: dict[int, int] = {}  # slot -> the index that came to it on this search
        queue = deque([index])
        while queue:
            current = queue.popleft()
            for slot in loose:
                if slot in asker or not matches(expected[slot], actual[current]):
                    continue
                asker[slot] = current
                if slot in owner:
                    queue.append(owner[slot])
                    continue
                queue.clear()
                _hand_over(slot, asker, found, owner)
                break
    return found


def _hand_over(
    slot: int | None, asker: dict[int, int], found: dict[int, int], owner: dict[int, int]
) -> None:
    """Give a free slot to who asked for it, that one's old slot to who asked for that, and on."""
    while slot is not None:
        index = asker[slot]
        owner[slot] = index
        before = found.get(index)
        found[index] = slot
        slot = before
