"""The page of faults leaves none out and names tests that there are."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.docs.pages import DOCS, ROOT, table_rows

FAULTS = [f"F{number}" for number in range(1, 51) if number not in (36, 47, 48, 49)]
"""Every fault that many processes have to survive; those of erasing, backups and secrets have pages of their own."""

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_EXCUSE = "not covered, because "


@cache
def rows() -> dict[str, str]:
    """What shows each fault, by its number."""
    page = (DOCS / "faults.md").read_text("utf-8")
    return {cells[0]: cells[3] for cells in table_rows(page) if re.fullmatch(r"F\d+", cells[0])}


def test_every_fault_is_on_the_page_once_and_in_order() -> None:
    page = (DOCS / "faults.md").read_text("utf-8")
    assert [cells[0] for cells in table_rows(page) if re.fullmatch(r"F\d+", cells[0])] == FAULTS


@pytest.mark.parametrize("fault", FAULTS)
def test_every_test_that_shows_a_fault_exists(fault: str) -> None:
    shown = rows()[fault]
    named = _TEST.findall(shown)
    assert named or shown.startswith(_EXCUSE), shown
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), (
            path,
            name,
        )


def test_an_excuse_comes_with_its_reason() -> None:
    for shown in rows().values():
        assert "not covered" not in shown or len(shown.partition(_EXCUSE)[2]) > 20, shown
