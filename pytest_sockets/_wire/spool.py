"""Where recorded bytes live: in memory up to a limit, beyond it in a temporary file."""

from __future__ import annotations

import bisect
import os
import tempfile
import weakref
from collections import deque

SMALL = 4096
"""Chunks below this many bytes are copied together; a larger one is kept as the object it is.

Copying every chunk of a 200 MB echo cost half of its throughput, keeping references did not."""
SEALED = 64 * 1024
"""A buffer of small chunks is sealed at this size: growing one for ever copies it each time."""
BATCH = 1024 * 1024
"""Bytes written to the file at once. Fresh memory is dear: 32 MiB at once halved the throughput."""


class Segment:
    """A piece of one direction of one stream: resident (`data`), or in the file (`offset`)."""

    __slots__ = ("data", "offset", "size", "start")

    def __init__(self, data: bytes | bytearray, start: int) -> None:
        self.data: bytes | bytearray | None = data
        self.start = start
        self.size = len(data)
        self.offset = -1


class Spool:
    """The memory of one endpoint's record: counts it and moves the oldest part to a file.

    Not safe for threads by itself: the endpoint's lock guards it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._resident = 0
        self._oldest: deque[Segment] = deque()
        self._fd = -1
        self._end = 0
        self.failure: OSError | None = None

    @property
    def resident(self) -> int:
        """Bytes held in memory."""
        return self._resident

    @property
    def spilled(self) -> int:
        """Bytes held in the file."""
        return self._end

    def enter(self, segment: Segment) -> None:
        """Begin to count a segment."""
        self._oldest.append(segment)
        self.grow(segment.size)

    def grow(self, count: int) -> None:
        """Count `count` more bytes, and make room when the limit is passed."""
        self._resident += count
        if self._resident > self._limit and self.failure is None:
            self._spill()

    def fetch(self, segment: Segment, start: int, stop: int) -> bytes:
        """Return the bytes `start` to `stop` of a segment, wherever it lives."""
        if segment.data is not None:
            return bytes(segment.data[start:stop])
        return os.pread(self._fd, stop - start, segment.offset + start)

    def _spill(self) -> None:
        try:
            while self._resident > self._limit and self._oldest:
                self._write_batch()
        except OSError as error:
            # A full disk must not cost a byte: what is not written stays in memory. The traceback
            # would keep views of the buffers, and a buffer that is viewed cannot grow.
            self.failure = error.with_traceback(None)

    def _write_batch(self) -> None:
        if self._fd < 0:
            self._fd = _unnamed_file()
            weakref.finalize(self, os.close, self._fd)
        batch: list[Segment] = []
        size = 0
        for segment in self._oldest:
            if (batch and size + segment.size > BATCH) or len(batch) == 512:  # IOV_MAX is 1024
                break
            batch.append(segment)
            size += segment.size
        _write_all(self._fd, [s.data for s in batch if s.data is not None], self._end)
        for segment in batch:
            self._oldest.popleft()
            segment.data, segment.offset = None, self._end
            self._end += segment.size
        self._resident -= size


class ByteLog:
    """One direction of one stream: an append-only run of bytes."""

    __slots__ = ("_segments", "_spool", "_starts", "size")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add bytes at the end. A large chunk is kept without a copy."""
        count = len(data)
        last = self._segments[-1] if self._segments else None
        tail = last.data if last is not None else None
        if count < SMALL and last is not None and isinstance(tail, bytearray):
            tail += data
            last.size += count
            self.size += count
            if last.size >= SEALED:
                last.data = bytes(tail)  # exact: a grown bytearray holds an eighth too much
            self._spool.grow(count)
            return
        segment = Segment(bytearray(data) if count < SMALL else data, self.size)
        self._segments.append(segment)
        self._starts.append(self.size)
        self.size += count
        self._spool.enter(segment)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from `start` up to `stop`; `None` means up to the end."""
        end = self.size if stop is None else min(stop, self.size)
        if start >= end:
            return b""
        first = bisect.bisect_right(self._starts, start) - 1
        parts: list[bytes] = []
        for at in range(first, len(self._segments)):
            segment = self._segments[at]
            if segment.start >= end:
                break
            low = max(start - segment.start, 0)
            parts.append(self._spool.fetch(segment, low, min(end - segment.start, segment.size)))
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _unnamed_file() -> int:
    fd, path = tempfile.mkstemp(prefix="pytest-sockets-record-")
    os.unlink(path)
    return fd


def _write_all(fd: int, buffers: list[bytes | bytearray], offset: int) -> None:
    pending = [memoryview(buffer) for buffer in buffers]
    while pending:
        written = os.pwritev(fd, pending, offset)
        offset += written
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if pending:
            pending[0] = pending[0][written:]
