"""The JSON schemas of knowledge files and shop objects: ``python -m app.knowledge.schema [FOLDER]`` writes them.

Editors complete and check files by them; a test keeps the files in the repository in step with the models.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from app.knowledge.models import ENTRY_FILE
from app.knowledge.shipped import shipped_knowledge
from app.knowledge.shop_settings import FACTS, SETTINGS

__all__ = ["SCHEMA_FILES", "knowledge_schema", "main", "render", "shop_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def knowledge_schema() -> dict[str, Any]:
    """Return the JSON schema of a knowledge file."""
    return {
        "$schema": _DIALECT,
        "title": "Huoji knowledge file",
        "description": "A list of entries, or {category, entries}: one category a file.",
        **ENTRY_FILE.json_schema(),
    }


def shop_schema() -> dict[str, Any]:
    """Return the JSON schema of a shop object."""
    schema = SETTINGS.json_schema()
    properties: dict[str, Any] = schema["properties"]
    for fact in sorted(FACTS):
        properties.setdefault(fact, {"description": "A fact for templates and rules."})
    return {
        "$schema": _DIALECT,
        **schema,
        "title": "Huoji shop",
        "description": "A shop's settings and catalogue. Further keys are facts: templates see them as shop.<key>.",
    }


SCHEMA_FILES = {"schema.json": knowledge_schema, "shop.schema.json": shop_schema}
"""File names in the knowledge folder, and what makes each."""


def render(schema: dict[str, Any]) -> bytes:
    """Return a schema as the bytes of its file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main(arguments: list[str]) -> int:
    """Write both schemas into the folder given, or into the shipped knowledge."""
    folder = Path(arguments[0]) if arguments else shipped_knowledge()
    for name, make in SCHEMA_FILES.items():
        (folder / name).write_bytes(render(make()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
