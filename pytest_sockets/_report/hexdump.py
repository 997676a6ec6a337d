"""Bytes as `hexdump -C` shows them."""

from __future__ import annotations

ROW = 16


def rows(data: bytes, start: int = 0) -> list[str]:
    """Return one line for each 16 bytes; `start` is the offset of the first."""
    return [_row(data[at : at + ROW], start + at) for at in range(0, len(data), ROW)]


def _row(data: bytes, offset: int) -> str:
    left, right = data[: ROW // 2].hex(" "), data[ROW // 2 :].hex(" ")
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return f"{offset:08x}  {left:<23}  {right:<23}  |{text}|"
