"""Where a Redis command ends: a framing function."""

from __future__ import annotations


def resp(buffer: bytes) -> int | None:
    """Find the end of a command as Redis clients send it: an array of bulk strings."""
    count, found, _ = buffer.partition(b"\r\n")
    if not found:
        return None
    stop = len(count) + 2
    for _ in range(int(count[1:])):
        size, found, _ = buffer[stop:].partition(b"\r\n")
        if not found:
            return None
        stop += len(size) + 2 + int(size[1:]) + 2
    return stop if len(buffer) >= stop else None
