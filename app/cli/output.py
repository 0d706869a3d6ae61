"""What commands print: sentences in the reader's language, tables, one JSON document."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import typer

__all__ = ["languages", "note", "print_json", "print_table", "say", "will_be_json"]


def languages(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the languages to speak, the first one first: by HUOJI_LANG, then the locale; else Chinese and English."""
    variables = os.environ if environment is None else environment
    for name in ("HUOJI_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        chosen = variables.get(name, "")[:2].lower()
        if chosen in ("zh", "en"):
            return (chosen,)
    return ("zh", "en")


def say(zh: str, en: str) -> None:
    """Print a sentence on stdout."""
    print(" · ".join({"zh": zh, "en": en}[language] for language in languages()))


def note(zh: str, en: str) -> None:
    """Print a remark or progress on stderr, which never mixes with a result."""
    print(" · ".join({"zh": zh, "en": en}[language] for language in languages()), file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    import orjson

    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns; Chinese characters take two places."""
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(_width(row[column]) for row in texts) for column in range(len(header))]
    for row in texts:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def will_be_json() -> Any:
    """Return the option ``--json``."""
    return typer.Option("--json", help="输出一个 JSON 文档 · print one JSON document")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
