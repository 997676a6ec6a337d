from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_sockets._report.hexdump import rows
from wire_samples import BULK, STEADY

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    ("data", "start", "lines"),
    [
        (b"", 0, []),
        (
            b"PING 2\r\n",
            0,
            ["00000000  50 49 4e 47 20 32 0d 0a                           |PING 2..|"],
        ),
        (
            b"0123456789abcdef~\x7f\x80\xff |",
            0x1F0,
            [
                "000001f0  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|",
                "00000200  7e 7f 80 ff 20 7c                                 |~... ||",
            ],
        ),
        (b"\0" * 9, 7, ["00000007  00 00 00 00 00 00 00 00  00                       |.........|"]),
        (b"x", 0x123456789, ["123456789  78" + " " * 48 + "|x|"]),
    ],
)
def test_a_row_has_an_offset_sixteen_bytes_and_their_characters(
    data: bytes, start: int, lines: list[str]
) -> None:
    assert rows(data, start) == lines


@pytest.mark.skipif(shutil.which("hexdump") is None, reason="there is no hexdump to compare with")
@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 16, 17, 256, 1000])
def test_rows_are_those_of_hexdump(size: int) -> None:
    data = (EVERY_BYTE + BULK)[-size:] if size < 256 else (EVERY_BYTE + BULK)[:size]
    done = subprocess.run(
        ["hexdump", "-C", "-v"],
        input=data,
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        check=True,
    )
    *expected, end = done.stdout.decode().splitlines()
    assert rows(data) == expected
    assert end == f"{size:08x}"


@settings(STEADY, max_examples=100)
@given(data=st.binary(max_size=100), start=st.integers(0, 1 << 32))
def test_a_dump_loses_no_byte(data: bytes, start: int) -> None:
    lines = rows(data, start)
    assert len({line.index("|") - line.index("  ") for line in lines}) <= 1
    assert (
        b"".join(bytes.fromhex(line[line.index("  ") : line.index("|")]) for line in lines) == data
    )
    offsets = [int(line[: line.index(" ")], 16) for line in lines]
    assert offsets == [start + at for at in range(0, len(data), 16)]
