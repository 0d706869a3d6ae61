"""Where the knowledge that Huoji comes with lies: inside an installed wheel, or beside the code in a checkout."""

from __future__ import annotations

from pathlib import Path

from app.core.errors import ConfigurationError

__all__ = ["shipped_demo", "shipped_knowledge", "shipped_texts"]

_APP = Path(__file__).resolve().parent.parent


def shipped_knowledge() -> Path:
    """Return the folder of the shipped knowledge files.

    Raises:
        ConfigurationError: the installation lacks it.
    """
    for folder in (_APP / "_shipped" / "knowledge", _APP.parent / "knowledge"):
        if folder.is_dir():
            return folder
    raise ConfigurationError("the shipped knowledge is missing from this installation; install Huoji again")


def shipped_texts() -> Path:
    """Return the folder of the built-in texts."""
    return shipped_knowledge() / "texts"


def shipped_demo() -> Path:
    """Return the folder of the demo shops and their data."""
    return shipped_knowledge() / "demo"
