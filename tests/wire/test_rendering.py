from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_sockets._wire.rendering import (
    count,
    first_difference,
    seconds,
    show,
    show_address,
    show_difference,
    show_log,
    show_value,
)
from wire_samples import BULK, STEADY, CountingLog

HUGE = BULK * 40  # 10 MiB
SHORT = st.text("ab", max_size=12).map(str.encode)


def naive_difference(expected: bytes, actual: bytes) -> int | None:
    for at, (left, right) in enumerate(zip(expected, actual, strict=False)):
        if left != right:
            return at
    return None if len(expected) == len(actual) else min(len(expected), len(actual))


@settings(STEADY, max_examples=500)
@given(expected=SHORT, actual=SHORT)
@example(expected=b"", actual=b"")
def test_the_first_difference_is_where_a_loop_finds_it(expected: bytes, actual: bytes) -> None:
    assert first_difference(expected, actual) == naive_difference(expected, actual)


@settings(STEADY, max_examples=200)
@given(size=st.integers(0, 700), at=st.integers(0, 700), more=st.integers(0, 3))
def test_one_changed_byte_is_found_wherever_it_is(size: int, at: int, more: int) -> None:
    expected, actual = BULK[:size], bytearray(BULK[: size + more])
    if at < size:
        actual[at] ^= 1
    difference = at if at < size else size if more else None
    assert first_difference(expected, bytes(actual)) == difference
    assert first_difference(bytes(actual), expected) == difference


@pytest.mark.parametrize("at", [0, 1, len(HUGE) // 2, len(HUGE) - 1])
def test_a_difference_in_ten_megabytes_is_found_and_shown_in_short_lines(at: int) -> None:
    actual = HUGE[:at] + bytes([HUGE[at] ^ 1]) + HUGE[at + 1 :]
    text = show_difference(HUGE, actual)
    assert f"first difference at byte {at}: expected 0x{HUGE[at]:02x}" in text
    assert max(map(len, text.splitlines())) < 300


@settings(STEADY, max_examples=300)
@given(size=st.integers(0, 400), around=st.none() | st.floats(0, 1))
def test_a_long_value_is_shown_in_a_window_that_contains_the_place(
    size: int, around: float | None
) -> None:
    data = BULK[:size]
    place = int(size * (around or 0))
    text = show(data, None if around is None else place)
    if size <= 96:
        assert text == repr(data)
        return
    found = re.fullmatch(r"(… )?(b.*?)( …)? \(bytes (\d+) to (\d+) of (\d+)\)", text)
    assert found is not None
    before, literal, after, start, stop, of = found.groups()
    begin, end = int(start), int(stop)
    assert eval(literal) == data[begin:end]
    assert (bool(before), bool(after), int(of)) == (begin > 0, end < size, size)
    assert begin <= place < end or place == end == size
    assert 24 <= end - begin <= 48


@settings(STEADY, max_examples=300)
@given(size=st.integers(0, 700), start=st.integers(0, 700), stop=st.none() | st.integers(0, 700))
def test_a_log_is_shown_as_its_bytes_are_and_little_of_it_is_read(
    size: int, start: int, stop: int | None
) -> None:
    log = CountingLog()
    log.append(BULK[:size])
    begin = min(start, size)
    end = size if stop is None else min(max(stop, begin), size)
    assert show_log(log, begin, None if stop is None else end) == show(BULK[begin:end])
    assert log.looked_at <= 96


DIGITS = b"0123456789" * 20


@pytest.mark.parametrize(
    ("data", "around", "text"),
    [
        (b"", None, "b''"),
        (b"a'b\"\n", None, r"""b'a\'b"\n'"""),
        (DIGITS[:96], 90, repr(DIGITS[:96])),
        (DIGITS[:97], None, f"{DIGITS[:48]!r} … (bytes 0 to 48 of 97)"),
        (DIGITS, 100, f"… {DIGITS[76:124]!r} … (bytes 76 to 124 of 200)"),
        (DIGITS, 200, f"… {DIGITS[176:]!r} (bytes 176 to 200 of 200)"),
        (b"x" * 10**6, 0, f"{b'x' * 48!r} … (bytes 0 to 48 of 1,000,000)"),
    ],
)
def test_bytes_are_shown_as_a_literal(data: bytes, around: int | None, text: str) -> None:
    assert show(data, around) == text


@pytest.mark.parametrize(
    ("expected", "actual", "lines"),
    [
        (
            b"PING 1\r\n",
            b"PING 2\r\n",
            r"""
  expected  b'PING 1\r\n'
  received  b'PING 2\r\n'
  first difference at byte 5: expected 0x31 '1', received 0x32 '2'""",
        ),
        (
            b"PING\r\n",
            b"PING",
            r"""
  expected  b'PING\r\n'
  received  b'PING'
  first difference at byte 4: expected 0x0d, received nothing more""",
        ),
        (
            b"",
            b" ",
            """
  expected  b''
  received  b' '
  first difference at byte 0: expected nothing more, received 0x20""",
        ),
        (
            b"same",
            b"same",
            """
  expected  b'same'
  received  b'same'""",
        ),
        (
            DIGITS,
            DIGITS[:150] + b"\xff",
            """
  expected  … b'678901234567890123456789012345678901234567890123' … (bytes 126 to 174 of 200)
  received  … b'678901234567890123456789\\xff' (bytes 126 to 151 of 151)
  first difference at byte 150: expected 0x30 '0', received 0xff""",
        ),
        (
            b"0123",
            DIGITS,
            """
  expected  b'0123'
  received  b'012345678901234567890123456789012345678901234567' … (bytes 0 to 48 of 200)
  first difference at byte 4: expected nothing more, received 0x34 '4'""",
        ),
    ],
)
def test_a_difference_is_told_in_three_lines(expected: bytes, actual: bytes, lines: str) -> None:
    assert "\n" + show_difference(expected, actual) == lines


def test_a_difference_names_the_direction() -> None:
    assert show_difference(b"a", b"b", "sent") == (
        "  expected  b'a'\n"
        "  sent      b'b'\n"
        "  first difference at byte 0: expected 0x61 'a', sent 0x62 'b'"
    )


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80), "[::1]:80"),
        (("fe80::1%2", 80), "[fe80::1%2]:80"),
        (("localhost", 80), "localhost:80"),
        ("/run/a socket", "/run/a socket"),
        ("/run/grün", "/run/grün"),
        ("/run/a\nb", r"/run/a\nb"),
        ("\0name", "@name"),
        ("\0a\0b", r"@a\x00b"),
        ("\0\udcff", r"@\udcff"),
        (None, "an unnamed socket"),
        ((16, 0), "(16, 0)"),
        (("hci0",), "('hci0',)"),
    ],
)
def test_an_address_is_written_as_people_write_it(address: Any, text: str) -> None:
    assert show_address(address) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (2, "2 bytes"), (1234567, "1,234,567 bytes")],
)
def test_a_number_goes_with_its_noun(number: int, text: str) -> None:
    assert count(number, "byte") == text


@pytest.mark.parametrize(
    ("value", "text"), [(5, "5 s"), (5.0, "5 s"), (0.05, "0.05 s"), (0, "0 s"), (1e-6, "1e-06 s")]
)
def test_a_span_is_written_with_its_unit(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ("a\n", r"'a\n'"),
        ("x" * 198, repr("x" * 198)),
        ("x" * 199, "'" + "x" * 199 + " … (201 characters)"),
        ("x" * 10**6, "'" + "x" * 199 + " … (1,000,002 characters)"),
    ],
)
def test_any_value_is_shown_within_one_line(value: object, text: str) -> None:
    assert show_value(value) == text
