"""Knowledge back into files: one a category, written as people write them, so that they come back the same."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.domain.knowledge import Entry, SynonymGroup
from app.knowledge.codec import Document, entry_to_doc, synonyms_to_docs
from app.knowledge.files import SYNONYMS_FILE

__all__ = ["export_folder", "render_category", "render_synonyms"]

_UNSAFE = re.compile(r"[^\w.\-]+")
_FLOWING = (
    "variants",
    "needs",
    "shops",
    "channels",
    "languages",
    "order_status",
    "product",
    "tier",
    "channel",
    "words",
)


def render_category(category: str, entries: Iterable[Entry]) -> bytes:
    """Return one category as the bytes of a YAML file."""
    documents: list[Document] = []
    for entry in entries:
        document = entry_to_doc(entry)
        del document["category"]
        documents.append(document)
    return _dump({"category": category, "entries": documents})


def render_synonyms(groups: Iterable[SynonymGroup]) -> bytes:
    """Return synonym groups as the bytes of a YAML file."""
    return _dump(synonyms_to_docs(groups))


def export_folder(
    folder: Path, entries: Iterable[Entry], synonyms: Iterable[SynonymGroup]
) -> tuple[Path, ...]:
    """Write one file a category, and the synonyms, into ``folder`` (made when absent); return the files.

    Each file is replaced as a whole or not at all. Other files in the folder stay.

    Raises:
        OSError: the folder or a file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_category: dict[str, list[Entry]] = {}
    for entry in entries:
        by_category.setdefault(entry.category, []).append(entry)
    written: list[Path] = []
    taken = {SYNONYMS_FILE}
    for category, members in by_category.items():
        name = _file_name(category, taken)
        written.append(_write(folder / name, render_category(category, members)))
    groups = tuple(synonyms)
    if groups:
        written.append(_write(folder / SYNONYMS_FILE, render_synonyms(groups)))
    return tuple(written)


def _file_name(category: str, taken: set[str]) -> str:
    stem = _UNSAFE.sub("_", category).strip("._")[:60] or "entries"
    name, count = f"{stem}.yaml", 1
    # Some file systems ignore case, so names must differ in more than that.
    while name.casefold() in taken:
        count += 1
        name = f"{stem}-{count}.yaml"
    taken.add(name.casefold())
    return name


def _write(path: Path, data: bytes) -> Path:
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(data)
    os.replace(beside, path)  # noqa: PTH105 (the one call that replaces atomically, spelt out)
    return path


def _dump(value: object) -> bytes:
    # Imported here: a server that only answers never writes YAML, and the package is slow to load.
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.width = 4096
    writer.indent(mapping=2, sequence=4, offset=2)
    stream = io.BytesIO()
    writer.dump(_styled(value), stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()


def _styled(value: Any, key: str = "") -> Any:
    """Keep lists of short texts on one line, as in the shipped files."""
    from ruamel.yaml.comments import CommentedSeq

    if isinstance(value, dict):
        return {name: _styled(item, str(name)) for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if isinstance(value, list):
        items = CommentedSeq(_styled(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
        if key in _FLOWING:
            items.fa.set_flow_style()  # pyright: ignore[reportUnknownMemberType]
        return items
    return value
