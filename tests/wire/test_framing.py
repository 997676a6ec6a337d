from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_sockets import MismatchError
from pytest_sockets._wire.framing import Exactly, Frame, Prefixed, Until, UpTo, count_of, positive
from wire_samples import STEADY, CountingLog, cut_at, log_of

Judge = Callable[[bytes], int | None]
"""The length of the first whole frame of some bytes, said in another way than the code does."""


def prefixed(format: str) -> Judge:
    size = struct.calcsize(format)

    def judge(data: bytes) -> int | None:
        if len(data) < size:
            return None
        stop = size + struct.unpack(format, data[:size])[0]
        return stop if len(data) >= stop else None

    return judge


def until(separator: bytes) -> Judge:
    def judge(data: bytes) -> int | None:
        before, found, _ = data.partition(separator)
        return len(before) + len(found) if found else None

    return judge


def exactly(count: int) -> Judge:
    return lambda data: count if len(data) >= count else None


FRAMES: dict[str, tuple[Callable[[], Frame], Judge, bytes]] = {
    "exactly 1": (lambda: Exactly(1), exactly(1), b"abc"),
    "exactly 7": (lambda: Exactly(7), exactly(7), b"0123456" * 3 + b"rest"),
    "line": (lambda: Until(b"\n"), until(b"\n"), b"\nHELO\n\nQUIT\nrest"),
    "crlf": (lambda: Until(b"\r\n"), until(b"\r\n"), b"a\rb\nc\r\r\n\r\nd\r\nrest\r"),
    "head": (lambda: Until(b"\r\n\r\n"), until(b"\r\n\r\n"), b"A\r\n\r\r\n\r\n\r\n\r\n\r\nrest"),
    "overlap": (lambda: Until(b"aab"), until(b"aab"), b"aaabaaaaabab"),
    "byte": (lambda: Prefixed("B"), prefixed("B"), b"\x00\x03abc\x00\x01d\x05rest"),
    "big": (lambda: Prefixed(">H"), prefixed(">H"), b"\0\3abc\0\0\0\1d\1\0rest"),
    "signed": (lambda: Prefixed(">i"), prefixed(">i"), b"\0\0\0\2ab\0\0\0\0\0\0\0\1"),
    "padded": (lambda: Prefixed("<xI"), prefixed("<xI"), b"\xff\2\0\0\0ab\xff\0\0\0\0\xff"),
}


def frames_of(
    make: Callable[[], Frame], judge: Judge, pieces: list[bytes]
) -> list[tuple[bytes, int]]:
    """Take frames from pieces as they come; each with the bytes that had come when it was found.

    As a connection does, this looks again only when the log is as long as the frame has said.
    """
    log = log_of()
    frame, start, needed = make(), 0, 0
    found = []
    for piece in pieces:
        log.append(piece)
        while log.size >= needed:
            whole, offset = frame.find(log, start)
            assert (judge(log.read(start)) is not None) == whole
            if not whole:
                assert offset > log.size
                needed = offset
                break
            found.append((log.read(start, offset), log.size))
            frame, start, needed = make(), offset, 0
        else:
            assert judge(log.read(start)) is None
    return found


def expected_frames(judge: Judge, data: bytes, pieces: list[bytes]) -> list[tuple[bytes, int]]:
    ends = [sum(map(len, pieces[: index + 1])) for index in range(len(pieces))]
    found, start = [], 0
    while (length := judge(data[start:])) is not None:
        came = next(end for end in ends if end >= start and judge(data[start:end]) is not None)
        found.append((data[start : start + length], came))
        start += length
    return found


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_cut_at_every_byte_are_those_of_the_whole(kind: str) -> None:
    make, judge, data = FRAMES[kind]
    cuts = [[at] for at in range(len(data) + 1)] + [list(range(len(data)))]
    whole = [frame for frame, _ in frames_of(make, judge, [data])]
    assert len(whole) >= 2
    for pieces in (cut_at(data, cut) for cut in cuts):
        found = frames_of(make, judge, pieces)
        assert [frame for frame, _ in found] == whole
        assert found == expected_frames(judge, data, pieces)
    assert data.startswith(b"".join(whole))


@settings(STEADY, max_examples=200)
@given(
    separator=st.text("ab", min_size=1, max_size=4).map(str.encode),
    pieces=st.lists(st.text("ab", max_size=6).map(str.encode), max_size=12),
)
@example(separator=b"aab", pieces=[b"aa", b"ab"])
def test_a_separator_is_found_wherever_the_cuts_are(separator: bytes, pieces: list[bytes]) -> None:
    judge = until(separator)
    found = frames_of(lambda: Until(separator), judge, pieces)
    assert found == expected_frames(judge, b"".join(pieces), pieces)


def test_a_long_frame_is_searched_once() -> None:
    log, frame = CountingLog(), Until(b"\r\n")
    for _ in range(2000):
        log.append(b"x")
        assert frame.find(log, 0) == (False, log.size + 1)
    assert log.looked_at <= 2 * log.size


@settings(STEADY, max_examples=100)
@given(n=st.integers(1, 9), pieces=st.lists(st.binary(max_size=12), max_size=8))
def test_up_to_takes_what_is_there_and_never_more(n: int, pieces: list[bytes]) -> None:
    log, start, taken = log_of(), 0, []
    for piece in pieces:
        log.append(piece)
        while (found := UpTo(n).find(log, start))[0]:
            taken.append(log.read(start, found[1]))
            start = found[1]
        assert found == (False, log.size + 1)
        assert b"".join(taken) == log.read()
    assert all(1 <= len(data) <= n for data in taken)


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (UpTo(3), "up to 3 bytes"),
        (UpTo(1), "up to 1 byte"),
        (Exactly(2000), "2,000 bytes"),
        (Exactly(3), "3 bytes"),
        (Exactly(1), "1 byte"),
        (Until(b"\r\n"), r"bytes up to b'\r\n'"),
        (Prefixed(">H"), "a '>H' length and so many bytes"),
    ],
)
def test_a_frame_names_what_is_waited_for(frame: Frame, wanted: str) -> None:
    assert frame.wanted == wanted


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        (">h", b"\xff\xff", "the length at byte 0 is -1, below 0"),
        (">h", b"\x80\x00rest", "the length at byte 0 is -32768, below 0"),
        ("b", b"\xfe", "the length at byte 0 is -2, below 0"),
    ],
)
def test_a_negative_length_is_no_frame(format: str, data: bytes, message: str) -> None:
    with pytest.raises(MismatchError) as caught:
        Prefixed(format).find(log_of(data), 0)
    assert str(caught.value) == message


def test_a_negative_length_is_told_with_its_place_in_the_stream() -> None:
    with pytest.raises(MismatchError) as caught:
        Prefixed("b").find(log_of(b"\x01a\xff"), 2)
    assert str(caught.value) == "the length at byte 2 is -1, below 0"


NO_NUMBER = "format must hold one whole number, as '>H' does, not "
NO_FORMAT = "format must be a struct format such as '>H', not "


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: UpTo(0), ValueError, "n must be at least 1, not 0"),
        (lambda: UpTo(-1), ValueError, "n must be at least 1, not -1"),
        (lambda: Exactly(0), ValueError, "n must be at least 1, not 0"),
        (lambda: Exactly(True), TypeError, "n must be a whole number, not bool True"),
        (lambda: Exactly(2.0), TypeError, "n must be a whole number, not float 2.0"),
        (lambda: Exactly("2"), TypeError, "n must be a whole number, not str '2'"),
        (lambda: Exactly(None), TypeError, "n must be a whole number, not NoneType None"),
        (lambda: positive(0, name="until"), ValueError, "until must be at least 1, not 0"),
        (lambda: count_of(-1, name="n"), ValueError, "n must be at least 0, not -1"),
        (lambda: count_of(0.0, name="n"), TypeError, "n must be a whole number, not float 0.0"),
        (lambda: count_of(False, name="n"), TypeError, "n must be a whole number, not bool False"),
        (
            lambda: Until(b""),
            ValueError,
            "separator=b'' ends no frame: name at least one byte",
        ),
        (
            lambda: Until("\n"),
            TypeError,
            r"separator must be bytes, not str '\n'; a socket carries bytes: write b'\n'",
        ),
        (lambda: Until(10), TypeError, "separator must be bytes, not int 10"),
        (lambda: Prefixed(""), ValueError, NO_NUMBER + "''"),
        (lambda: Prefixed(">HH"), ValueError, NO_NUMBER + "'>HH'"),
        (lambda: Prefixed("?"), ValueError, NO_NUMBER + "'?'"),
        (lambda: Prefixed("4s"), ValueError, NO_NUMBER + "'4s'"),
        (lambda: Prefixed(">f"), ValueError, NO_NUMBER + "'>f'"),
        (lambda: Prefixed("x"), ValueError, NO_NUMBER + "'x'"),
        (lambda: Prefixed(">y"), ValueError, NO_FORMAT + "'>y': bad char in struct format"),
        (
            lambda: Prefixed("é"),
            ValueError,
            NO_FORMAT + "'é': 'ascii' codec can't encode character '\\xe9' in position 0: "
            "ordinal not in range(128)",
        ),
        (lambda: Prefixed(None), TypeError, NO_FORMAT + "NoneType None"),
        (lambda: Prefixed(2), TypeError, NO_FORMAT + "int 2"),
        (lambda: Prefixed(b">H"), TypeError, NO_FORMAT + "bytes b'>H'"),
    ],
)
def test_what_is_no_frame_is_named(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("separator", [bytearray(b"\r\n"), memoryview(b"\r\n")])
def test_a_separator_may_be_anything_like_bytes(separator: Any) -> None:
    assert Until(separator).find(log_of(b"a\r\nb"), 0) == (True, 3)


def test_zero_is_a_count_and_so_is_any_larger_number() -> None:
    assert [count_of(number, name="n") for number in (0, 1, 7)] == [0, 1, 7]
    assert [positive(number, name="n") for number in (1, 7)] == [1, 7]
