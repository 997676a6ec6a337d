from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import weakref
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets._wire.spool import BATCH, SEALED, ByteLog, Spool
from wire_samples import BULK, CHUNKS, LIMITS, STEADY

MANY = st.sampled_from([1, 1, 1, 30, 700])


@settings(STEADY, max_examples=150)
@given(
    appended=st.lists(st.tuples(st.booleans(), CHUNKS, MANY), max_size=20),
    limit=LIMITS,
    data=st.data(),
)
def test_any_part_of_two_logs_reads_as_what_was_appended(
    appended: list[tuple[bool, bytes, int]], limit: int, data: st.DataObject
) -> None:
    spool = Spool(limit)
    logs = ByteLog(spool), ByteLog(spool)
    wholes = bytearray(), bytearray()
    for which, chunk, times in appended:
        log, whole = logs[which], wholes[which]
        for _ in range(times if len(chunk) <= 200 else 1):
            log.append(chunk)
            whole += chunk
            assert spool.resident <= limit
        assert log.size == len(whole)
        start = max(0, len(whole) - len(chunk) - 1)
        assert log.read(start) == whole[start:]
    for log, whole in zip(logs, wholes, strict=True):
        assert log.read() == whole
        for _ in range(5):
            start, stop = sorted(data.draw(st.integers(0, len(whole) + 2)) for _ in range(2))
            assert log.read(start, stop) == whole[start:stop]
            assert log.read(stop, start) == b""
    assert spool.resident + spool.spilled == sum(map(len, wholes))


def test_a_large_chunk_is_kept_without_a_copy() -> None:
    log = ByteLog(Spool(1 << 20))
    log.append(b"small")
    log.append(BULK)
    assert log.read(5) is BULK


def test_bytes_that_were_read_do_not_change_when_more_come() -> None:
    log = ByteLog(Spool(1 << 20))
    log.append(b"PING")
    before = log.read()
    log.append(b" 1\r\n")
    assert before == b"PING"
    assert log.read() == b"PING 1\r\n"


@pytest.mark.parametrize("size", [64, 3000, 5000, 70_000])
def test_the_file_grows_a_mebibyte_at_a_time(size: int) -> None:
    limit = 4 * BATCH
    spool = Spool(limit)
    log = ByteLog(spool)
    lengths = [0]
    for _ in range(0, 12 * BATCH, size):
        log.append(BULK[:size])
        assert spool.resident <= limit
        assert spool.resident + spool.spilled == log.size
        lengths.append(spool.spilled)
    steps = [after - before for before, after in pairwise(lengths) if after != before]
    assert len(steps) >= 7
    assert min(steps) > BATCH - max(size, 2 * SEALED)
    assert max(steps) <= BATCH


def test_a_chunk_larger_than_a_batch_is_written_by_itself() -> None:
    spool = Spool(1000)
    log = ByteLog(spool)
    huge = BULK * 9
    log.append(b"first")
    log.append(huge)
    assert spool.resident == 0
    log.append(b"last")
    assert spool.spilled == 5 + len(huge)
    assert log.read() == b"first" + huge + b"last"


def test_what_a_system_call_did_not_write_is_written_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Linux writes a regular file whole, up to 2 GiB, so that only a stand-in can write less.
    whole_write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: whole_write(fd, [views[0][:1000]], at))
    spool = Spool(50_000)
    log = ByteLog(spool)
    for start in range(0, 200_000, 700):
        log.append(BULK[start : start + 700])
    assert spool.spilled >= 100_000
    assert log.read() == BULK[: log.size]


def test_a_record_below_its_limit_opens_no_file() -> None:
    spool = Spool(len(BULK))
    log = ByteLog(spool)
    log.append(BULK)
    assert (spool.spilled, spool.resident, spool._fd) == (0, len(BULK), -1)
    log.append(b"!")
    assert spool.spilled == len(BULK) + 1
    assert spool._fd >= 0


def test_the_file_has_no_name_that_could_be_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(0)
    log = ByteLog(spool)
    log.append(BULK)
    assert os.fstat(spool._fd).st_size == len(BULK)
    assert os.fstat(spool._fd).st_dev == tmp_path.stat().st_dev
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_closed_with_the_last_reference_to_the_record() -> None:
    spool = Spool(0)
    log = ByteLog(spool)
    log.append(BULK)
    fd, file = spool._fd, os.fstat(spool._fd)
    assert is_open(fd, file)
    del log, spool
    assert not is_open(fd, file)


def is_open(fd: int, file: os.stat_result) -> bool:
    try:  # another thread may have opened something else under this number
        return os.path.samestat(os.fstat(fd), file)
    except OSError:
        return False


@pytest.mark.parametrize("size", [7, 3000, 7000])
@pytest.mark.parametrize(("place", "error"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_without_a_temporary_directory_nothing_is_lost(
    place: str, error: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    spool = Spool(10)
    log = ByteLog(spool)
    for start in range(0, 20 * size, size):
        log.append(BULK[start : start + size])
    assert spool.failure is not None
    assert spool.failure.errno == error
    assert log.read() == BULK[: log.size]
    assert (spool.resident, spool.spilled) == (log.size, 0)


def test_a_failed_spool_is_freed_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    spool = Spool(0)
    log = ByteLog(spool)
    log.append(BULK)
    failure, freed = spool.failure, weakref.ref(spool)
    del log, spool
    assert isinstance(failure, FileNotFoundError)
    assert freed() is None


FULL_DISK = """
    import random, resource, sys
    from pytest_sockets._wire.spool import ByteLog, Spool

    bulk = random.Random(7).randbytes(256 * 1024)
    limit, size, room = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    spool = Spool(limit)
    logs = ByteLog(spool), ByteLog(spool)
    wholes = bytearray(), bytearray()
    total = 0
    while total < 2 * room:
        at = total % (len(bulk) - size)
        for log, whole in zip(logs, wholes):
            log.append(bulk[at : at + size])
            whole += bulk[at : at + size]
        total += 2 * size
    assert all(log.read() == whole for log, whole in zip(logs, wholes)), "bytes were lost"
    assert spool.resident + spool.spilled == total
    print(spool.failure.errno, spool.spilled)
"""


@pytest.mark.parametrize("size", [64, 5000])
@pytest.mark.parametrize("limit", [0, 200_000, 1 << 20])
def test_on_a_disk_that_fills_up_nothing_is_lost(limit: int, size: int) -> None:
    room = 3_000_000
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL_DISK)]
    done = subprocess.run(
        [*command, str(limit), str(size), str(room)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    code, spilled = map(int, done.stdout.split())
    assert code == errno.EFBIG
    assert room - BATCH - size <= spilled <= room
