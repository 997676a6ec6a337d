import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench" / "run.py"


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, BENCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("style", [[], ["--markdown"]], ids=["plain", "markdown"])
def test_the_benchmark_prints_the_rows_it_was_asked_for(style: list[str]) -> None:
    done = bench("--quick", "--rows", "start,exchange", *style)

    assert done.returncode == 0, done.stderr
    assert "start and stop of an endpoint" in done.stdout
    assert "64 bytes there and back" in done.stdout
    assert "stalled connections" not in done.stdout
    assert ("| --- |" in done.stdout) == bool(style)
    assert "exchange: " in done.stderr


def test_the_benchmark_refuses_a_row_that_it_does_not_have() -> None:
    done = bench("--rows", "start,nothing")

    assert done.returncode == 2
    assert "no row nothing; there are start, exchange" in done.stderr


def test_the_benchmark_puts_no_quick_table_into_the_manual(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("untouched")

    done = bench("--quick", "--update", str(page))

    assert done.returncode == 2
    assert "leave --quick and --rows out" in done.stderr
    assert page.read_text() == "untouched"
