"""The manual's sources, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
README = ROOT / "README.md"


def pages() -> list[Path]:
    """Return the pages that readers see."""
    hidden = (EXAMPLES, DOCS / "changelog.d", DOCS / "_build")
    found = sorted(DOCS.rglob("*.md"))
    return [page for page in found if not any(map(page.is_relative_to, hidden))]


def blocks(text: str, language: str) -> list[str]:
    """Return the content of the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def first_column(text: str, heading: str) -> list[str]:
    """Return what stands in backticks in the first column of the table after a heading."""
    _, _, rest = text.partition(heading)
    rows: list[str] = []
    for line in rest.splitlines():
        if line.startswith("| `"):
            rows += re.findall(r"`([^`]+)`", line.split(" | ")[0])
        elif rows:
            break
    return rows


def includes(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files that a page includes, each with the source that it shows of them."""
    text = page.read_text()
    for name, options in re.findall(r"^```\{literalinclude\} (\S+)\n(.*?)^```", text, re.M | re.S):
        path = (page.parent / name).resolve()
        source = path.read_text()
        shown = re.search(r':pyobject: (\S+)|:start-after: "(.+)"\n:end-before: "(.+)"', options)
        if shown and shown[1]:
            source = f"def {shown[1]}("
        elif shown:
            source = source.partition(shown[2])[2].partition(shown[3])[0]
        yield path, source
