"""Where the next piece of a stream ends: TCP has no messages, so whoever reads one says so.

A frame's `find` looks at a log from an offset on. It returns `(True, stop)` for a whole frame that
ends at `stop`, or `(False, size)`: look again when the log has `size` bytes.
"""

from __future__ import annotations

import re
import struct
from typing import Any, Protocol, cast

from pytest_sockets._wire.errors import MismatchError
from pytest_sockets._wire.matching import as_bytes, as_expectation
from pytest_sockets._wire.rendering import count, show
from pytest_sockets._wire.spool import ByteLog


class Frame(Protocol):
    """How to find the end of the next piece."""

    @property
    def wanted(self) -> str:
        """Name what is waited for."""
        ...

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        """Find the end of the frame that begins at `start`."""
        ...


class UpTo:
    """Whatever is there, at most `n` bytes."""

    def __init__(self, n: int) -> None:
        self._most = positive(n, name="n")
        self.wanted = f"up to {count(self._most, 'byte')}"

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        if log.size > start:
            return True, min(log.size, start + self._most)
        return False, start + 1


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
        self._separator = as_bytes(separator, name=name)
        if not self._separator:
            msg = f"{name}=b'' ends no frame: name at least one byte"
            raise ValueError(msg)
        self._searched = 0
        self.wanted = f"bytes up to {show(self._separator)}"

    def find(self, log: ByteLog, start: int) -> tuple[bool, int]:
        begin = max(start, self._searched)
        at = log.read(begin).find(self._separator)
        if at >= 0:
            return True, begin + at + len(self._separator)
        self._searched = max(start, log.size - len(self._separator) + 1)
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


def positive(value: object, *, name: str) -> int:
    """Return a count of at least one, or say what is wrong with it."""
    return _whole(value, 1, name)


def count_of(value: object, *, name: str) -> int:
    """Return a count of at least zero, or say what is wrong with it."""
    return _whole(value, 0, name)


def _whole(value: object, least: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number, not {type(value).__name__} {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, not {value}"
        raise ValueError(msg)
    return value
