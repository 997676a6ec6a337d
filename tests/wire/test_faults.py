from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from pytest_sockets import faults
from pytest_sockets.faults import (
    AfterReceived,
    AfterSent,
    AtAccept,
    AtEOF,
    BeforeSend,
    Close,
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Effect,
    FailHandshake,
    HalfClose,
    Inject,
    Moment,
    OnFirstByte,
    RaggedEOF,
    Refuse,
    Reorder,
    Reset,
    Slice,
    Stall,
    StopReading,
    Throttle,
    Truncate,
    Unreachable,
    WrongSource,
)

STREAM, DATAGRAM, BOTH = {"stream"}, {"datagram"}, {"stream", "datagram"}
VALUES: list[tuple[Any, str, set[str]]] = [
    (AtAccept(), "AtAccept()", STREAM),
    (OnFirstByte(), "OnFirstByte()", STREAM),
    (AfterReceived(5), "AfterReceived(5)", BOTH),
    (AfterReceived(0), "AfterReceived(0)", BOTH),
    (AfterReceived(b"QUIT\r\n"), r"AfterReceived(b'QUIT\r\n')", BOTH),
    (AfterReceived(what=5), "AfterReceived(5)", BOTH),
    (AfterSent(0), "AfterSent(0)", BOTH),
    (AfterSent(n=7), "AfterSent(7)", BOTH),
    (BeforeSend(), "BeforeSend()", BOTH),
    (AtEOF(), "AtEOF()", STREAM),
    (Refuse(), "Refuse()", STREAM),
    (Stall(), "Stall()", STREAM),
    (Close(), "Close()", STREAM),
    (Reset(), "Reset()", STREAM),
    (HalfClose(), "HalfClose()", STREAM),
    (StopReading(), "StopReading()", STREAM),
    (Slice(), "Slice()", STREAM),
    (Slice(3), "Slice(3)", STREAM),
    (Throttle(2), "Throttle(2)", STREAM),
    (Throttle(1e3), "Throttle(1000.0)", STREAM),
    (Delay(0.5), "Delay(0.5)", BOTH),
    (Corrupt(), "Corrupt()", BOTH),
    (Corrupt(4), "Corrupt(4)", BOTH),
    (Inject(b"junk"), "Inject(b'junk')", STREAM),
    (FailHandshake(), "FailHandshake()", STREAM),
    (RaggedEOF(), "RaggedEOF()", STREAM),
    (Drop(), "Drop()", DATAGRAM),
    (Drop(0.5), "Drop(0.5)", DATAGRAM),
    (Duplicate(), "Duplicate()", DATAGRAM),
    (Reorder(0.1), "Reorder(0.1)", DATAGRAM),
    (Truncate(0), "Truncate(0)", DATAGRAM),
    (WrongSource(), "WrongSource()", DATAGRAM),
    (Unreachable(), "Unreachable()", DATAGRAM),
]


@pytest.mark.parametrize(("value", "text", "carriers"), VALUES, ids=[text for _, text, _ in VALUES])
def test_a_value_prints_as_it_is_written_and_is_one(
    value: Any, text: str, carriers: set[str]
) -> None:
    assert repr(value) == text
    assert value.__name__ == text  # what pytest takes for the id
    again = eval(text, vars(faults))
    assert again == value
    assert hash(again) == hash(value)
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert value._carriers == carriers
    assert isinstance(value, (Effect, Moment))
    with pytest.raises((AttributeError, TypeError)):
        value.other = 1


def test_every_value_is_told_of_here() -> None:
    names = {type(value).__name__ for value, _, _ in VALUES}
    assert names | {"Effect", "Moment", "cuts", "splits"} == set(faults.__all__)


def test_values_of_different_kinds_differ() -> None:
    values = [value for value, _, _ in VALUES]
    for at, value in enumerate(values):
        equal = [other for other in values[at + 1 :] if other == value]
        assert all(repr(other) == repr(value) for other in equal)
    assert AfterReceived(5) != AfterSent(5)
    assert Close() != Reset()


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_bytes_of_any_kind_are_kept_as_bytes(data: Any) -> None:
    assert AfterReceived(data) == AfterReceived(b"ab")
    assert type(AfterReceived(data).what) is type(Inject(data).data) is bytes


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: AfterReceived(b""), ValueError, "AfterReceived(b'') is true from the beginning"),
    (lambda: AfterReceived(-1), ValueError, "what must be at least 0, not -1"),
    (lambda: AfterReceived(1.5), TypeError, "what must be a number of bytes, or bytes, not 1.5"),
    (lambda: AfterReceived("QUIT"), TypeError, "what must be bytes, not str 'QUIT'"),
    (lambda: AfterSent(-1), ValueError, "n must be at least 0, not -1"),
    (lambda: AfterSent(True), TypeError, "n must be a whole number, not bool True"),
    (lambda: AfterSent(b"x"), TypeError, "n must be a whole number, not bytes b'x'"),
    (lambda: Slice(0), ValueError, "size must be at least 1, not 0"),
    (lambda: Slice("3"), TypeError, "size must be a whole number, not str '3'"),
    (lambda: Throttle(0), ValueError, "rate must be above 0: Stall() is for sending nothing"),
    (lambda: Throttle(-1), ValueError, "rate must be a number of bytes per second, above 0 and"),
    (lambda: Throttle(math.inf), ValueError, "above 0 and finite, not inf"),
    (lambda: Throttle(math.nan), ValueError, "above 0 and finite, not nan"),
    (lambda: Throttle("fast"), TypeError, "rate must be a number of bytes per second, not str"),
    (lambda: Delay(0), ValueError, "seconds must be above 0: a delay of 0 is none"),
    (lambda: Delay(-0.1), ValueError, "seconds must be a number of seconds, above 0 and finite"),
    (lambda: Delay(True), TypeError, "seconds must be a number of seconds, not bool True"),
    (lambda: Corrupt(0), ValueError, "size must be at least 1, not 0"),
    (lambda: Corrupt(1.0), TypeError, "size must be a whole number, not float 1.0"),
    (lambda: Inject(b""), ValueError, "data is b'': give Inject() some bytes to send"),
    (lambda: Inject("junk"), TypeError, "data must be bytes, not str 'junk'"),
    (lambda: Truncate(-1), ValueError, "size must be at least 0, not -1"),
    *(
        (lambda kind=kind, chance=chance: kind(chance), error, text)
        for kind in (Drop, Duplicate, Reorder)
        for chance, error, text in (
            (0, ValueError, "chance must be above 0 and at most 1, not 0"),
            (1.1, ValueError, "chance must be above 0 and at most 1, not 1.1"),
            (math.nan, ValueError, "chance must be above 0 and at most 1, not nan"),
            (True, TypeError, "chance must be a number above 0 and at most 1, not True"),
            ("1", TypeError, "chance must be a number above 0 and at most 1, not '1'"),
        )
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[text for _, _, text in BAD])
def test_a_bad_value_is_named(call: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert text in str(caught.value)
