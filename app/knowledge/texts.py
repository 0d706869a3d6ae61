"""The built-in texts, read from their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.knowledge.shipped import shipped_texts
from app.replies.texts import TextBook

__all__ = ["load_text_book"]


def load_text_book() -> TextBook:
    """Read the built-in texts in every language.

    Raises:
        ConfigurationError: the installation lacks them, or one that the policy needs.
    """
    return TextBook.load(_read("zh"), _read("en"))


def _read(language: str) -> Mapping[str, Any]:
    # Imported here: whoever needs no texts needn't wait for the YAML reader.
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe")
    return yaml.load(shipped_texts() / f"{language}.yaml")
