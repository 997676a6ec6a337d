"""Where the next piece of a stream ends: TCP has no messages, so whoever reads one says so.

A frame's `find` looks at a log from an offset on. It returns `(True, stop)` for a whole frame that
ends at `stop`, or `(False, size)`: look again when the log has `size` bytes.
"""

from __future__ import annotations

import inspect
import re
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast

from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.matching import as_bytes, as_expectation, show_expected
from pytest_sockets._wire.rendering import count, show, show_value
from pytest_sockets._wire.spool import ByteLog

FIRST_LOOK = 512
"""Bytes looked at first for the end of a frame; each further look takes twice as many.

Most frames are short, and many can come in one chunk: looking at all that is there for the end of
each would copy a buffer of n frames n times."""
LARGEST_LOOK = 1 << 20
"""Bytes looked at last for a separator: a flood without one may be more than fits into memory."""

NEARLY = "the pattern"
"""How the line begins that says how a pattern nearly matches."""

Framing: TypeAlias = bytes | str | Callable[[bytes], int | None]
"""Where frames end: a separator, a `struct` format of a length, or a function that finds the end
of the first frame in a buffer."""


class Frame(Protocol):
    """How to find the end of the next piece.

    It may be asked for one piece after the other of the same log, and remembers how far it has
    looked: `start` only grows.
    """

    @property
    def wanted(self) -> str:
        """Name what is waited for."""
        ...

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        """Find the end of the frame that begins at `start`."""
        ...


class UpTo:
    """Whatever is there, at most `n` bytes.

    Args:
        n: how many.
        end_of: where the packet ends that the byte at an offset is of; `None`: there are none.
    """

    def __init__(self, n: int, end_of: Callable[[int], int] | None = None) -> None:
        self._most = positive(n, name="n")
        self._end_of = end_of
        self.wanted = f"up to {count(self._most, 'byte')}"

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        if log.size <= start:
            return False, start + 1
        end = log.size if self._end_of is None else self._end_of(start)
        return True, min(end, start + self._most)


class Exactly:
    """Exactly `n` bytes."""

    def __init__(self, n: int, *, name: str = "n") -> None:
        self._count = positive(n, name=name)
        self.wanted = count(self._count, "byte")

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        stop = start + self._count
        return log.size >= stop, stop


class Until:
    """Everything up to a separator, and the separator."""

    def __init__(self, separator: bytes, *, name: str = "separator") -> None:
        self.separator = as_bytes(separator, name=name)
        if not self.separator:
            msg = f"{name}=b'' ends no frame: name at least one byte"
            raise ValueError(msg)
        self._searched = 0
        self.wanted = f"bytes up to {show(self.separator)}"

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        size = len(self.separator)
        look = max(FIRST_LOOK, 2 * size)
        begin = max(start, self._searched)
        while True:
            at = log.read(begin, begin + look).find(self.separator)
            if at >= 0:
                return True, begin + at + size
            if begin + look >= log.size:
                break
            begin += look - size + 1  # a separator may lie across the end of what was looked at
            look = max(look, min(2 * look, LARGEST_LOOK))
        self._searched = max(start, log.size - size + 1)
        return False, log.size + 1


class Prefixed:
    """A length in a `struct` format such as ``">H"``, then so many bytes; both are the frame."""

    def __init__(self, format: object) -> None:
        if not isinstance(format, str):
            kind = type(format).__name__
            msg = f"format must be a struct format such as '>H', not {kind} {format!r}"
            raise TypeError(msg)
        try:
            self._prefix = struct.Struct(format)
            value = self._prefix.unpack(bytes(self._prefix.size))
        except (struct.error, UnicodeError) as error:
            msg = f"format must be a struct format such as '>H', not {format!r}: {error}"
            raise ValueError(msg) from error
        if len(value) != 1 or not isinstance(value[0], int) or isinstance(value[0], bool):
            msg = f"format must hold one whole number, as '>H' does, not {format!r}"
            raise ValueError(msg)
        self.wanted = f"a {format!r} length and so many bytes"

    @property
    def size(self) -> int:
        """Bytes of the prefix."""
        return self._prefix.size

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        body = start + self._prefix.size
        if log.size < body:
            return False, body
        (length,) = self._prefix.unpack(log.read(start, body))
        if length < 0:
            msg = f"the length at byte {start} is {length}, below 0"
            raise MismatchError(msg)
        stop = body + int(length)
        return log.size >= stop, stop


def expectation(expected: Any, until: Any) -> tuple[Any, Frame | None]:
    """Return what `expect` was given, checked, and the frame of a pattern."""
    wanted = as_expectation(expected)
    if isinstance(wanted, re.Pattern):
        pattern = cast("re.Pattern[bytes]", wanted)
        if until is None:
            msg = (
                f"expect({pattern!r}) needs until=: TCP has no messages, so say where the frame "
                r'ends, for example until=b"\r\n" or until=12 (bytes)'
            )
            raise TypeError(msg)
        if pattern.fullmatch(b""):
            msg = (
                f"expect({pattern!r}) is met by no bytes at all: write a pattern that needs at "
                "least one"
            )
            raise ValueError(msg)
        if isinstance(until, (bytes, bytearray, memoryview, str)):
            return pattern, Until(cast("bytes", until), name="until")
        return pattern, Exactly(until, name="until")
    if not isinstance(wanted, bytes):
        msg = f"expect takes bytes or a compiled bytes pattern, not {wanted!r}"
        raise TypeError(msg)
    if until is not None:
        msg = "until= goes with a pattern: bytes say themselves where they end"
        raise TypeError(msg)
    return wanted, None


class Found:
    """What a function finds: it gets a buffer and returns the length of the first whole frame."""

    def __init__(self, function: Callable[[bytes], int | None]) -> None:
        self._function = function
        self._name = name_of(function)
        self._asked = 0  # up to here it has found no end
        self.wanted = f"a frame as {self._name} finds it"

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        """Find the end of the frame that begins at `start`.

        The function gets growing beginnings of what is there, as TCP could have delivered it.

        Raises:
            TypeError: what it returned is no number.
            ValueError: what it returned is no length of a frame in its buffer.
        """
        have = log.size - start
        if not have or log.size <= self._asked:
            return False, max(log.size, self._asked) + 1
        look = max(FIRST_LOOK, 2 * (self._asked - start))
        while True:
            buffer = log.read(start, start + look)
            length = self._checked(self._function(buffer), buffer, is_all=look >= have)
            if length is not None:
                return True, start + length
            if look >= have:
                break
            look *= 2
        self._asked = log.size
        return False, log.size + 1

    def _checked(self, length: Any, buffer: bytes, *, is_all: bool) -> int | None:
        if length is None:
            return None
        wrong = f"framing function {self._name} returned {show_value(length)} for {show(buffer)}"
        if not isinstance(length, int) or isinstance(length, bool):
            msg = f"{wrong}: it must return a whole number, or None while the frame is not complete"
            raise TypeError(msg)
        if length < 1:
            msg = f"{wrong}: a frame has at least 1 byte; None means that it is not complete"
            raise ValueError(msg)
        if length <= len(buffer):
            return length
        if not is_all:
            return None
        msg = f"{wrong}: only {count(len(buffer), 'byte')} came; return None until all of it has"
        raise ValueError(msg)


def misses_bounds(pattern: re.Pattern[bytes], data: bytes, frame: Frame | None) -> str | None:
    """Say that a pattern would match a frame without its separator or length; `None`: it would not.

    The sentence goes on from the name of the pattern.
    """
    if isinstance(frame, Until) and pattern.fullmatch(data.removesuffix(frame.separator)):
        part = f"the separator {show(frame.separator)}"
    elif isinstance(frame, Prefixed) and pattern.fullmatch(data[frame.size :]):
        part = f"the length in front, {show(data[: frame.size])}"
    else:
        return None
    return f"matches without {part}, and has to match that too"


def show_misfit(expected: Any, actual: bytes, frame: Frame | None = None) -> str:
    """Return the lines that show a frame, or a datagram, beside what it does not match.

    They say how a pattern does match it, where it nearly does.
    """
    lines = [f"  expected  {show_expected(expected)}", f"  received  {show(actual)}"]
    if isinstance(expected, re.Pattern):
        pattern = cast("re.Pattern[bytes]", expected)
        near = misses_bounds(pattern, actual, frame)
        start = pattern.match(actual)
        if near is None and start is not None and start.end():
            near = f"matches the beginning only, {start.end():,} of {count(len(actual), 'byte')}"
        if near is not None:
            lines.append(f"  {NEARLY} {near}")
    return "\n".join(lines)


def framing_of(value: Any) -> Callable[[], Frame]:
    """Return what makes the `Frame` of one stream, or say what is wrong with `framing=`.

    Args:
        value: a separator (bytes), a length in a `struct` format such as ``">H"`` (it counts the
            bytes that follow it), or a function that gets the bytes that came and returns the
            length of the first whole frame, `None` while it is not complete. A frame includes its
            separator or prefix.
    """
    if isinstance(value, str):
        try:
            Prefixed(value)
        except ValueError as error:
            msg = f"framing={value!r}: {error}; a separator is bytes"
            raise ValueError(msg) from None
        return lambda: Prefixed(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        separator = as_bytes(cast("object", value), name="framing")
        Until(separator, name="framing")
        return lambda: Until(separator)
    if callable(value):
        if inspect.iscoroutinefunction(value):
            msg = f"framing={name_of(value)} must be a plain function, not an async one"
            raise TypeError(msg)
        return lambda: Found(cast("Callable[[bytes], int | None]", value))
    kind = type(value).__name__
    msg = (
        "framing must be a separator such as b'\\r\\n', a struct format such as '>H', or a "
        f"function that returns the length of the first frame, not {kind} {show_value(value)}"
    )
    raise TypeError(msg)


def name_of(function: object) -> str:
    """Name a function in a message."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else show_value(function)


def positive(value: object, *, name: str) -> int:
    """Return a count of at least one, or say what is wrong with it."""
    return _whole(value, 1, name)


def count_of(value: object, *, name: str) -> int:
    """Return a count of at least zero, or say what is wrong with it."""
    return _whole(value, 0, name)


def amount_of(value: object, *, name: str, unit: str) -> float:
    """Return a number of some unit, 0 or more, or say what is wrong with it."""
    return _number_of(value, name, unit, "0 or more")


def _number_of(value: object, name: str, unit: str, least: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} must be a number of {unit}, not {type(value).__name__} {value!r}"
        raise TypeError(msg)
    if not 0 <= value <= sys.float_info.max:  # nan is neither; an int can be larger than any float
        msg = f"{name} must be a number of {unit}, {least} and finite, not {value!r}"
        raise ValueError(msg)
    return float(value)


def above_zero(value: object, *, name: str, unit: str, hint: str) -> float:
    """Return a number of some unit, above 0, or say what is wrong with it."""
    amount = _number_of(value, name, unit, "above 0")
    if not amount:
        msg = f"{name} must be above 0: {hint}"
        raise ValueError(msg)
    return amount


def _whole(value: object, least: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number, not {type(value).__name__} {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, not {value}"
        raise ValueError(msg)
    return value
