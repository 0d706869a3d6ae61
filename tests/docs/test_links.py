"""Links lead somewhere, and files that are named exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, name_of, pages, without_code_blocks

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:app|benchmarks|docs|knowledge|scripts|tests)/[\w./-]*[\w/])`")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
EXAMPLE = "fair"
"""The marketplace that the walk-through of CONTRIBUTING.md makes up."""


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    headings = HEADING.findall(without_code_blocks(page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_within_the_project_resolves(page: Path):
    dead: list[str] = []
    for target in LINK.findall(without_code_blocks(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        if not file.exists() or (anchor and unquote(anchor) not in anchors(file)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_file_that_is_named_exists(page: Path):
    named = PATH.findall(page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists() and EXAMPLE not in path] == []


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    named = {(ROOT / "docs" / target).resolve() for target in LINK.findall(index)}
    own = {page for page in (ROOT / "docs").rglob("*.md") if page.name != "README.md"}
    assert sorted(name_of(page) for page in own - named) == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_page_tells_whose_machine_it_was_written_on(page: Path):
    assert re.findall(r"(?<![\w.])/(?:home|root|Users|work|tmp)/[\w.-]+", page.read_text("utf-8")) == []
