"""Measure what pytest-sockets costs, against the same work done without it, in one table.

Figures are medians of several rounds, with the lowest and the highest in parentheses. In each
round both sides are measured one after the other, and ratios are taken round by round. Nothing
fails because a figure is bad: a machine may be slow, or busy.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # kept out by PYTHONSAFEPATH

import runs
import size
import speed
from measure import HEADINGS, Result, isolated, say

ROWS: dict[str, Callable[[bool], list[Result]]] = {
    row.__name__: row
    for row in (
        speed.start,
        speed.exchange,
        runs.test,
        speed.roundtrip,
        speed.throughput,
        speed.fault,
        speed.proxy,
        speed.assertion,
        size.received,
        size.connections,
        size.memory,
        size.teardown,
    )
}

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/bench/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows: " + "; ".join(f"{name} ({_about(name)})" for name in ROWS),
    )
    parser.add_argument(
        "--rows", type=_rows, default=list(ROWS), metavar="A,B", help="only these rows (see below)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small numbers and few rounds, to see that it works"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument(
        "--update",
        type=Path,
        metavar="FILE",
        help=f"also put the Markdown table between {BEGIN} and {END} in a file",
    )
    options = parser.parse_args(arguments)
    if options.update is not None:
        if options.quick or len(options.rows) < len(ROWS):
            parser.error("--update needs the whole table: leave --quick and --rows out")
        _cut(options.update)  # a file without the marks is a mistake that is told at once

    started = time.monotonic()
    results, failed = measure(options.rows, quick=options.quick)
    say(f"{time.monotonic() - started:.0f} s in all")
    if options.update is not None and not failed:
        before, after = _cut(options.update)
        options.update.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n\n{END}{after}")
    print(markdown(results) if options.markdown else plain(results))
    return 1 if failed else 0


def measure(names: list[str], *, quick: bool) -> tuple[list[Result], bool]:
    """Measure rows, each in a fresh process; return what came, and whether one broke."""
    results: list[Result] = []
    failed = False
    for name in names:
        say(f"{name}: {_about(name)}")
        try:
            results += isolated(ROWS[name], quick)
        except Exception:
            traceback.print_exc()
            results.append(Result(f"{name}: could not be measured", "—"))
            failed = True
    return results, failed


def markdown(results: list[Result]) -> str:
    """Return the table as the manual shows it."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(result.cells for result in results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{machine()}"


def plain(results: list[Result]) -> str:
    """Return the rows as blocks of lines: the table is too wide for a terminal."""
    blocks: list[str] = []
    for result in results:
        what, *rest = result.cells
        facts = [
            f"  {heading:<15} {cell}"
            for heading, cell in zip(HEADINGS[1:], rest, strict=True)
            if cell != "—"
        ]
        blocks.append("\n".join([what, *facts]))
    return "\n\n".join([*blocks, machine()])


def machine() -> str:
    """Say on what it was measured."""
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"Measured on {cores} cores, {system}, {python}."


def _about(name: str) -> str:
    return (ROWS[name].__doc__ or "").rstrip(".").lower()


def _rows(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        msg = f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _cut(path: Path) -> tuple[str, str]:
    """Return what stands before and after the table in a file."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no {BEGIN} followed by {END}")
    return before, after


if __name__ == "__main__":
    sys.exit(main())
