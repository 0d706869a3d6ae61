"""Damage to the file of an embedded database: how it is found, and what is said of it. Nothing here mends anything.

SQLite notices a broken page when it reads it, which may be weeks after the disk broke it. So a start looks the file over
for as long as a start may take, and the first sign of damage while running ends all writing: rows that are written into
a broken tree make it worse, and reading goes on.

Source: the faults to survive, F9.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from app.core.errors import ConfigurationError, UnavailableError

__all__ = ["LOOK_SECONDS", "DamagedError", "damage_in", "find_damage", "require_sound", "what_to_do"]

LOOK_SECONDS = 1.0
"""How long a start looks; a larger file is looked over in part. Source: ready again within 3 s, the faults, F1."""

_SIGNS = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_HEADING = "*** in database main ***"
_PRIMARY = 0xFF
"""Extended codes of SQLite have the primary one in their lowest byte."""


class DamagedError(UnavailableError):
    """The database's file is damaged: it is read as far as it can be, and nothing is written any more."""

    default_code = "database_damaged"

    def __init__(self) -> None:
        super().__init__(
            "the database file is damaged, so nothing is written any more; reading goes on as far as it can. Whoever runs "
            "this server finds what to do with: huoji doctor",
            retry_after=60,
        )


def damage_in(error: BaseException) -> str | None:
    """Return SQLite's own words when an error means a damaged file; None for every other error."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return str(cause) if isinstance(code, int) and code & _PRIMARY in _SIGNS else None


def find_damage(path: Path, *, seconds: float) -> tuple[str | None, bool]:
    """Look a database file over without changing it; return the damage found, and whether all of it was looked at.

    A file that can't be opened or read for another reason than damage has none as far as this tells. Waits up to
    ``seconds``: not for the event loop's thread.
    """
    is_late = threading.Event()
    # Even closing a connection that may write would change the file: it moves the log into it.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def give_up() -> None:
        is_late.set()
        connection.interrupt()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return damage_in(error), False
    finally:
        timer.cancel()
        timer.join()
        connection.close()
    if is_late.is_set():
        # Pages that weren't come to would be called unused.
        return None, False
    return (None if said == "ok" else " ".join(str(said).removeprefix(_HEADING).split())), True


def require_sound(path: Path, *, seconds: float = LOOK_SECONDS) -> None:
    """Look a database file over before a server works on it; one that isn't there is sound.

    Raises:
        ConfigurationError: code ``database_damaged``; the message says what to do.
    """
    if not path.is_file():
        return
    try:
        damage, _ = find_damage(path, seconds=seconds)
    except sqlite3.Error:
        # It can't be opened, which whoever opens it to work on it explains better.
        return
    if damage is not None:
        raise ConfigurationError(
            f"the database {path} is damaged ({damage}). Nothing was changed. {what_to_do(path)}",
            code="database_damaged",
        )


def what_to_do(path: Path) -> str:
    """Return the way back from damage, in English."""
    return (
        f"Keep a copy of {path} together with {path.name}-wal; then restore the last backup, or read out what can be "
        f"read: sqlite3 {path} .recover | sqlite3 {path.with_name('recovered.db')}"
    )
