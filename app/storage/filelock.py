"""One server a SQLite file: a lock of the operating system, which the kernel frees however its process dies.

Source: the faults to survive, F4.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import orjson

from app.core.errors import ConfigurationError

__all__ = ["FileLock", "LockHolder", "lock_file", "lock_holder"]

_TRIES = 10
_PAUSE_SECONDS = 0.02
"""A process that only looks (``lock_holder``) or is just ending may hold the lock for a moment."""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds the lock; ``host`` matters where a folder is shared between machines."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


def lock_file(database: Path) -> Path:
    """Return the lock's place: beside the database file."""
    return database.with_name(f"{database.name}.lock")


class FileLock:
    """Held by the server for as long as it runs. The commands take no part in it: they may run beside a server."""

    def __init__(self, database: Path) -> None:
        """Take the database file, which needn't exist yet. Nothing is opened."""
        self._database = database
        self._path = lock_file(database)
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ConfigurationError: code ``database_in_use`` when another server has it (the message names its pid and
                host), ``database_unreachable`` when the lock's file can't be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {self._path}: {error.strerror}; the folder of the database must be writable",
                code="database_unreachable",
            ) from None
        if not _try_lock(handle, fcntl.LOCK_EX):
            holder = _read(handle)
            os.close(handle)
            raise ConfigurationError(
                f"another huoji server ({holder or 'unknown'}) works on {self._database}; stop that one first, or "
                "give this one a database of its own with --database-url",
                code="database_in_use",
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, orjson.dumps({"pid": os.getpid(), "host": socket.gethostname()}), 0)
        self._handle = handle

    def release(self) -> None:
        """Give the lock up; harmless when it isn't held."""
        if self._handle is not None:
            # The file stays: removing it would let two servers lock two files of one name.
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_holder(database: Path) -> LockHolder | None:
    """Return which server works on a database file; None when none does."""
    try:
        handle = os.open(lock_file(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _try_lock(handle, fcntl.LOCK_SH, tries=1):
            return None
        return _read(handle) or LockHolder(0, "unknown")
    finally:
        os.close(handle)


def _try_lock(handle: int, kind: int, *, tries: int = _TRIES) -> bool:
    pause = threading.Event()
    for attempt in range(tries):
        if attempt:
            pause.wait(_PAUSE_SECONDS)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            continue
    return False


def _read(handle: int) -> LockHolder | None:
    try:
        found = orjson.loads(os.pread(handle, 4096, 0))
        return LockHolder(int(found["pid"]), str(found["host"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
