"""The glossary's identifiers are those of the code."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT, table_rows


def test_every_identifier_stands_in_the_code():
    code = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "app").rglob("*.py")))
    files = {path.name for path in (ROOT / "app").rglob("*") if path.is_file()}
    words = set(re.findall(r"\w+", code))
    page = (DOCS / "glossary.md").read_text("utf-8")
    identifiers = [
        one for cells in table_rows(page) if len(cells) == 4 for one in re.findall(r"`([^`]+)`", cells[2])
    ]
    assert len(identifiers) > 50
    unknown = [one for one in identifiers if one not in files and not set(re.findall(r"\w+", one)) <= words]
    assert unknown == []
