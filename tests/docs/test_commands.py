"""Commands and tasks that a page tells to run exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from app.cli.program import build
from tests.docs.pages import ROOT, name_of, pages

# After a line's beginning, a quote, a pipe or a setting; a sentence that begins with the name is no command.
COMMAND = re.compile(r"(?:^|[`|(]|=[^\s`]+ )(?:\.venv/bin/)?huoji ((?:[a-z][a-z-]* ?){1,2})", re.MULTILINE)
TASK = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)


def commands() -> dict[str, Any]:
    """The command line's tree: commands, and groups with their commands."""
    root: Any = typer.main.get_command(build())
    return {name: getattr(command, "commands", None) for name, command in root.commands.items()}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_that_is_named_exists(page: Path):
    tree = commands()
    unknown: list[str] = []
    for words in COMMAND.findall(page.read_text("utf-8")):
        first, *rest = words.split()
        if first not in tree or (tree[first] is not None and rest and rest[0] not in tree[first]):
            unknown.append(words.strip())
    assert unknown == []


def test_the_command_page_names_every_command():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    full = [
        f"{name} {below}" if below else name
        for name, group in commands().items()
        for below in (group if group is not None else [""])
    ]
    assert [name for name in full if f"`huoji {name}" not in page] == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_task_that_is_named_exists(page: Path):
    tasks = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)) | {
        "help"
    }
    assert set(TASK.findall(page.read_text("utf-8"))) - tasks == set()
