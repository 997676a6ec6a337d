"""Bytes, logs and records for the tests of the layers that have no socket."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pytest_sockets._wire.record import Record
from pytest_sockets._wire.spool import SEALED, SMALL, ByteLog, Spool

STEADY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""The same examples on every machine, however slow it is."""

BULK = random.Random(7).randbytes(256 * 1024)
"""Bytes without a pattern, so that a piece of it in the wrong place is seen."""

LIMITS = st.sampled_from([0, 1, 1000, 10_000, 100_000, 1 << 20, 1 << 40])
"""Record limits: none, tiny, one that is passed now and then, and one that never is."""

SIZES = (
    st.integers(0, 200)
    | st.sampled_from([SMALL - 1, SMALL, SMALL + 1, SEALED - 1, SEALED, SEALED + 1])
    | st.integers(0, 200_000)
)
CHUNKS = st.builds(lambda size, at: BULK[at : at + size], SIZES, st.integers(0, 50_000))


def log_of(*pieces: bytes) -> ByteLog:
    """Return a log of these pieces, kept in memory."""
    log = ByteLog(Spool(1 << 40))
    for piece in pieces:
        log.append(piece)
    return log


class CountingLog(ByteLog):
    """A log that counts the bytes that were read from it."""

    __slots__ = ("at_once", "looked_at")

    def __init__(self) -> None:
        super().__init__(Spool(1 << 40))
        self.looked_at = 0
        self.at_once = 0  # the most that one read gave

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        data = super().read(start, stop)
        self.looked_at += len(data)
        self.at_once = max(self.at_once, len(data))
        return data


def record_of(*, endpoint: str = "end", index: int | None = 0, limit: int = 1 << 40) -> Record:
    """Return an empty record with a spool of its own."""
    return Record(endpoint, index, Spool(limit))


def cut_at(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return the pieces of `data` between some offsets."""
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]
