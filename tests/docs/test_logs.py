"""The page on logs names every line about a message's way."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.docs.pages import DOCS, ROOT, table_rows


def noted_in(path: Path) -> set[str]:
    """The events that a module notes on its trail."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "note"
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "trail"
        ):
            names = [
                one.value
                for one in ast.walk(node.args[0])
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            assert names, f"{path}:{node.lineno} has no constant name"
            found.update(names)
    return found


def test_every_line_about_a_messages_way_is_in_the_table():
    noted = set[str]().union(*(noted_in(path) for path in (ROOT / "app").rglob("*.py")))
    page = (DOCS / "logs.md").read_text("utf-8")
    documented = {cells[0].strip("`") for cells in table_rows(page) if len(cells) == 3 and "." in cells[0]}
    assert len(noted) > 5
    assert documented == noted
