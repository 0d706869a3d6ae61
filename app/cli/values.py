"""``key=value`` arguments, whose values may lie in a file (``@file``) or come on stdin (``-``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import typer

from app.core.errors import InvalidError

__all__ = ["read_assignments", "read_password", "strip_newline"]


def read_assignments(arguments: Sequence[str], *, stdin: TextIO | None = None) -> list[tuple[str, str]]:
    """Return keys and values in order.

    Raises:
        typer.BadParameter: an argument is no ``key=value``, or two want stdin.
        InvalidError: a file can't be read as UTF-8 text.
    """
    found: list[tuple[str, str]] = []
    has_read = False
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key.strip():
            # The value may be a secret, so the argument isn't repeated.
            raise typer.BadParameter("settings are written key=value")
        if value == "-":
            if has_read:
                raise typer.BadParameter("only one value can come from stdin")
            has_read = True
            value = strip_newline((stdin or sys.stdin).read())
        elif value.startswith("@"):
            value = _read_file(Path(value[1:]))
        found.append((key.strip(), value))
    return found


def read_password(stdin: TextIO | None = None) -> str:
    """Return the password on stdin, without one newline at its end."""
    return strip_newline((stdin or sys.stdin).read())


def strip_newline(text: str) -> str:
    """Take one newline off the end, if there is one."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _read_file(path: Path) -> str:
    try:
        return strip_newline(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise InvalidError(f"{path}: {reason}", code="file_unreadable") from None
