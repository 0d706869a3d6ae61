"""Whether the file of an embedded database can be worked on by this user, and the command that helps when it can't.

SQLite opens a file that it may only read without a word, and fails at the first write. So a start looks first.

Source: the faults to survive, F8.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path

from app.core.errors import ConfigurationError
from app.storage.filelock import lock_file

__all__ = ["require_writable"]


def require_writable(path: Path) -> None:
    """Make sure that a database file, or the folder that it is to be made in, can be written.

    Raises:
        ConfigurationError: code ``database_unreachable``; the message has the cause and the command that mends it.
    """
    if _is_there(path) and path.is_dir():
        raise _refusal(
            f"{path} is a folder", "name a file in HUOJI_DATABASE_URL, such as sqlite:///var/huoji.db"
        )
    folder = next(parent for parent in path.absolute().parents if _is_there(parent))
    if not folder.is_dir():
        raise _refusal(f"{folder} is no folder", "name another place in HUOJI_DATABASE_URL")
    # SQLite makes its log beside the file, so the folder matters as much as the file.
    if not _may(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _explain(folder, "rwx")
    beside = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))
    for file in (path, *beside, lock_file(path)):
        if _is_there(file) and not _may(file, os.R_OK | os.W_OK):
            raise _explain(file, "rw")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        # The folder on the way to it is what we may not look into, and is what is named.
        return False


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def _explain(blocked: Path, needed: str) -> ConfigurationError:
    found = blocked.stat()
    place = shlex.quote(str(blocked))
    us = os.geteuid()
    if os.statvfs(blocked).f_flag & os.ST_RDONLY:
        return _refusal(
            f"{blocked} is on a file system that is mounted read-only",
            f"mount -o remount,rw {shlex.quote(str(_mount_point(blocked)))}",
        )
    if us not in (0, found.st_uid):
        return _refusal(
            f"{blocked} belongs to {_name(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):04o}), and huoji runs as "
            f"{_name(us)}",
            f"sudo chown {_name(us)} {place}",
        )
    if us == found.st_uid and stat.S_IMODE(found.st_mode) >> 6 & _bits(needed) != _bits(needed):
        return _refusal(
            f"{blocked} is read-only (mode {stat.S_IMODE(found.st_mode):04o})", f"chmod u+{needed} {place}"
        )
    return _refusal(f"{blocked} is protected against changes", f"sudo chattr -i {place}")


def _bits(needed: str) -> int:
    return sum({"r": 4, "w": 2, "x": 1}[one] for one in needed)


def _mount_point(path: Path) -> Path:
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.is_mount())


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _refusal(cause: str, command: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot write the database: {cause}. Mend it with: {command}", code="database_unreachable"
    )
