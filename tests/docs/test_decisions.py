"""Decision records are complete, short and numbered without gaps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, name_of

RECORDS = sorted((DOCS / "decisions").glob("*.md"))
LONGEST = 60
"""Lines of one page."""


def test_they_are_numbered_without_gaps():
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_each_says_what_was_decided_when_and_why_in_one_page(record: Path):
    text = record.read_text("utf-8")
    assert text.startswith(f"# {int(record.name[:4])}. ")
    assert re.search(r"^Date: \d{4}-\d{2}-\d{2} · Status: (accepted|superseded by \d+)", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [wanted for wanted in ("Context", "Decision", "Consequences") if wanted not in headings] == []
    assert len(text.splitlines()) <= LONGEST
