"""Bytes as text: short, with the place where they first differ."""

from __future__ import annotations

from pytest_sockets._wire.events import Address
from pytest_sockets._wire.spool import ByteLog

WINDOW = 48
"""Bytes of a long value that a message shows; the failure section has all of them."""
VALUE_LIMIT = 200
"""Characters of a `repr` that a message shows."""


def show(data: bytes, around: int | None = None, *, total: int | None = None) -> str:
    """Return `data` as a literal; of a long value a window `around` an offset, or its start.

    `total` is the length of the whole where `data` is only its beginning.
    """
    size = len(data) if total is None else total
    if size <= 2 * WINDOW:
        return repr(data)
    start = max(0, min((around or 0) - WINDOW // 2, len(data)))
    stop = min(start + WINDOW, len(data))
    before = "… " if start else ""
    after = " …" if stop < size else ""
    return f"{before}{data[start:stop]!r}{after} (bytes {start} to {stop} of {size:,})"


def show_log(log: ByteLog, start: int = 0, stop: int | None = None) -> str:
    """Return what a log holds between two offsets, as `show` does.

    No more of it is read than is shown: a peer may have sent far more than fits into memory.
    """
    end = log.size if stop is None else stop
    return show(log.read(start, min(end, start + 2 * WINDOW)), total=end - start)


def show_value(value: object) -> str:
    """Return the `repr` of a value that may be anything, cut where it is long."""
    text = repr(value)
    return (
        text if len(text) <= VALUE_LIMIT else f"{text[:VALUE_LIMIT]} … ({len(text):,} characters)"
    )


def show_error(error: BaseException) -> str:
    """Return ``ValueError: its message``, or the type alone where there is no message."""
    kind, text = type(error).__name__, shown_text(error)
    return kind if text == kind else f"{kind}: {text}"


def shown_text(error: BaseException) -> str:
    """Return an error's message, or its type where that is empty or cannot be had."""
    try:
        text = str(error)
    except Exception as fault:  # the user's own `__str__`
        text = f"(its text cannot be shown: {type(fault).__name__})"
    return text or type(error).__name__


def first_difference(expected: bytes, actual: bytes) -> int | None:
    """Return the offset of the first differing byte, `None` where the two are equal.

    Where one is the start of the other, that is the length of the shorter one.
    """
    if expected == actual:
        return None
    low, high = 0, min(len(expected), len(actual))
    if expected[:high] == actual[:high]:
        return high
    while high - low > 1:  # halving compares slices in C: a 10 MB value takes milliseconds
        middle = (low + high) // 2
        if expected[low:middle] == actual[low:middle]:
            low = middle
        else:
            high = middle
    return low


def show_difference(
    expected: bytes, actual: bytes, verb: str = "received", *, total: int | None = None
) -> str:
    """Return the lines that say where `actual` first differs from `expected`.

    `total` is the length of the whole where `actual` is only its beginning.
    """
    at = first_difference(expected, actual)
    lines = [
        f"  expected  {show(expected, at)}",
        f"  {verb:<8}  {show(actual, at, total=total)}",
    ]
    if at is not None:
        lines.append(
            f"  first difference at byte {at}: "
            f"expected {_byte(expected, at)}, {verb} {_byte(actual, at)}"
        )
    return "\n".join(lines)


def show_address(address: Address | None) -> str:
    """Return an address as people write it: ``127.0.0.1:80``, ``[::1]:80``, ``@name``, a path."""
    if address is None:
        return "an unnamed socket"
    if isinstance(address, str):
        text = "@" + address[1:] if address.startswith("\0") else address
        # Names are bytes to the kernel: NULs, line ends and what is no UTF-8 cannot be printed.
        return text if text.isprintable() else repr(text)[1:-1]
    if len(address) == 2 and isinstance(address[0], str):
        host, port = address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)


def count(number: int, noun: str) -> str:
    """Return ``1 connection``, ``2 connections``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def seconds(value: float) -> str:
    """Return a span as people write it: ``5 s``, ``0.05 s``."""
    return f"{value:g} s"


def _byte(data: bytes, at: int) -> str:
    if at >= len(data):
        return "nothing more"
    value = data[at]
    return f"0x{value:02x} {chr(value)!r}" if 0x20 < value < 0x7F else f"0x{value:02x}"
