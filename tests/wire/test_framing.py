from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_sockets import MismatchError
from pytest_sockets._wire.framing import (
    FIRST_LOOK,
    LARGEST_LOOK,
    Exactly,
    Found,
    Frame,
    Prefixed,
    Until,
    UpTo,
    count_of,
    framing_of,
    positive,
    show_misfit,
)
from resp import resp
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


COMMANDS = b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\n*1\r\n$0\r\n\r\n*1\r"


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
    "function": (lambda: Found(resp), resp, COMMANDS),
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


def test_a_flood_without_a_separator_is_not_read_at_once() -> None:
    log = CountingLog()
    log.append(b"x" * (5 * LARGEST_LOOK) + b"\r")
    frame = Until(b"\r\n")
    assert frame.find(log, 0) == (False, log.size + 1)
    assert log.at_once == LARGEST_LOOK
    log.append(b"\n" + b"x" * 10)
    assert frame.find(log, 0) == (True, 5 * LARGEST_LOOK + 2)


def test_a_separator_longer_than_any_look_is_found() -> None:
    separator = b"x" * (2 * LARGEST_LOOK) + b";"
    log = log_of(b";" * LARGEST_LOOK, separator, b";")
    assert Until(separator).find(log, 0) == (True, log.size - 1)


@pytest.mark.parametrize("framing", [b"\n", ">I", lambda data: data.find(b"\n") + 1 or None])
def test_long_frames_among_short_ones_are_found(framing: Any) -> None:
    sizes = [1, FIRST_LOOK - 1, FIRST_LOOK, 3 * FIRST_LOOK + 1, 2, 100_000, 1]
    if framing == ">I":
        frames = [struct.pack(">I", size) + bytes(size) for size in sizes]
    else:
        frames = [b"x" * (size - 1) + b"\n" for size in sizes]
    log, frame, start, found = log_of(b"".join(frames)), framing_of(framing)(), 0, []
    while (step := frame.find(log, start))[0]:
        found.append(log.read(start, step[1]))
        start = step[1]
    assert found == frames


@pytest.mark.parametrize("size", range(FIRST_LOOK - 4, FIRST_LOOK + 3))
def test_a_separator_across_the_end_of_a_look_is_found(size: int) -> None:
    assert Until(b"abc").find(log_of(b"x" * size + b"abc" + b"y" * 999), 0) == (True, size + 3)


def test_one_frame_object_finds_one_frame_after_the_other() -> None:
    for framing in (b"\r\n", resp):
        log, frame = log_of(), framing_of(framing)()
        start, found = 0, []
        for byte in COMMANDS:
            log.append(bytes([byte]))
            while (step := frame.find(log, start))[0]:
                found.append(step[1] - start)
                start = step[1]
        assert sum(found) == start
        assert found == (
            [14, 20, 4, 10] if framing is resp else [4, 4, 6, 4, 4, 5, 4, 3, 4, 4, 4, 2]
        )


def test_a_function_is_asked_again_only_when_more_has_come() -> None:
    asked: list[int] = []

    def endless(buffer: bytes) -> None:
        asked.append(len(buffer))

    log, frame = CountingLog(), Found(endless)
    assert frame.find(log, 0) == (False, 1)
    assert asked == []
    log.append(bytes(FIRST_LOOK + 1))
    for _ in range(3):
        assert frame.find(log, 0) == (False, log.size + 1)
    assert asked == [FIRST_LOOK, FIRST_LOOK + 1]
    log.append(b"x")
    assert frame.find(log, 0) == (False, log.size + 1)
    assert asked == [FIRST_LOOK, FIRST_LOOK + 1, FIRST_LOOK + 2]


def test_a_function_gets_short_frames_of_a_long_buffer_without_the_whole_of_it() -> None:
    log, frame, start = CountingLog(), Found(lambda data: 4 if len(data) >= 4 else None), 0
    log.append(bytes(40_000))
    while (step := frame.find(log, start))[0]:
        start = step[1]
    assert start == log.size
    assert log.looked_at <= 10_000 * FIRST_LOOK


def counting(buffer: bytes) -> Any:
    return {b"0": 0, b"-": -1, b"t": True, b"f": 1.0, b"s": "1", b"l": len(buffer) + 1}[buffer[:1]]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"0", ValueError, "0 for b'0': a frame has at least 1 byte; None means that it is not"),
        (b"-", ValueError, "-1 for b'-': a frame has at least 1 byte"),
        (b"t", TypeError, "True for b't': it must return a whole number, or None while"),
        (b"f", TypeError, "1.0 for b'f': it must return a whole number"),
        (b"s", TypeError, "'1' for b's': it must return a whole number"),
        (b"lo", ValueError, "3 for b'lo': only 2 bytes came; return None until all of it has"),
    ],
)
def test_what_a_function_returns_has_to_be_a_length(
    data: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        Found(counting).find(log_of(data), 0)
    assert str(caught.value).startswith(f"framing function counting returned {message}")


def test_a_length_from_a_header_alone_is_no_mistake_when_the_rest_is_there() -> None:
    frame = Found(lambda data: 2 + int.from_bytes(data[:2], "big"))
    assert frame.find(log_of(struct.pack(">H", 5000) + bytes(6000)), 0) == (True, 5002)
    with pytest.raises(ValueError, match=r"returned 5002 for .*: only 4,001 bytes came; return"):
        frame.find(log_of(struct.pack(">H", 5000) + bytes(3999)), 0)


async def later(buffer: bytes) -> int:
    return len(buffer)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (b"", ValueError, "framing=b'' ends no frame: name at least one byte"),
        (
            "\r\n",
            ValueError,
            "framing='\\r\\n': format must hold one whole number, as '>H' does, not '\\r\\n'; "
            "a separator is bytes",
        ),
        (
            ";",
            ValueError,
            "framing=';': format must be a struct format such as '>H', not ';': "
            "bad char in struct format; a separator is bytes",
        ),
        (later, TypeError, "framing=later must be a plain function, not an async one"),
        (
            4,
            TypeError,
            "framing must be a separator such as b'\\r\\n', a struct format such as '>H', or a "
            "function that returns the length of the first frame, not int 4",
        ),
    ],
)
def test_what_is_no_framing_is_refused_at_once(
    value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        framing_of(value)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize("separator", [bytearray(b";"), memoryview(b";")])
def test_framing_may_be_anything_like_bytes(separator: Any) -> None:
    assert framing_of(separator)().find(log_of(b"a;b"), 0) == (True, 2)


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
    ("source", "frame", "data", "near"),
    [
        (b"A .*", Until(b"\r\n"), b"A b\r\n", "matches without the separator b'\\r\\n'"),
        (b"A b$", Until(b"\n"), b"A b\n", "matches without the separator b'\\n'"),
        (b"a.*", Prefixed("B"), b"\2ab", "matches without the length in front, b'\\x02'"),
        (b"A", Until(b"\r\n"), b"A b\r\n", "matches the beginning only, 1 of 5 bytes"),
        (b"A .*", None, b"A b\nc", "matches the beginning only, 3 of 5 bytes"),
        (b"a", Exactly(2), b"ab", "matches the beginning only, 1 of 2 bytes"),
        (b"b", Exactly(2), b"ab", None),
        (b"b*c", Exactly(2), b"ab", None),
        (b"a?b?", Exactly(3), b"xab", None),
    ],
)
def test_a_pattern_that_nearly_matches_is_shown_with_what_it_misses(
    source: bytes, frame: Frame | None, data: bytes, near: str | None
) -> None:
    first, second, *rest = show_misfit(re.compile(source), data, frame).splitlines()
    assert [first, second] == [f"  expected  a full match of {source!r}", f"  received  {data!r}"]
    more = ", and has to match that too" if near and "without" in near else ""
    assert rest == ([f"  the pattern {near}{more}"] if near else [])


def test_what_is_no_pattern_is_shown_beside_what_came() -> None:
    assert show_misfit(3, b"a") == "  expected  3\n  received  b'a'"


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
