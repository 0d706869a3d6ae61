"""The pages that the tests of this folder read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every page written for people, by path."""
    found = [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        ROOT / "benchmarks" / "README.md",
        ROOT / "knowledge" / "CHANGELOG.md",
    ]
    return sorted(found)


def name_of(page: Path) -> str:
    """A page's path from the root of the project."""
    return page.relative_to(ROOT).as_posix()


def code_blocks(text: str, language: str) -> list[str]:
    """The blocks of a page that are marked as one language."""
    return [block for marked, block in _FENCE.findall(text) if marked == language]


def without_code_blocks(text: str) -> str:
    """A page's text with its blocks of code left out."""
    return _FENCE.sub("", text)


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of a page's tables, heads and rules included."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
