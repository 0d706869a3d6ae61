"""Where a process runs, told exactly enough that another on the same machine can see whether it still does.

A process that was killed can't say so, and its lease has to run out. But the kernel knows: on the same boot of the same
machine and in the same process namespace, a number that is free, or that belongs to a process begun at another moment,
means that the one who had it has gone. Nothing is concluded about processes elsewhere.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place"]

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A process's host and number, for people, and its identity, for other processes (empty: not to be compared)."""

    host: str
    pid: int
    identity: str

    @classmethod
    def here(cls) -> Place:
        """Return this process's own place."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, identity=_identity(pid))

    def is_dead(self, identity: str) -> bool:
        """Whether the process with this identity has certainly ended."""
        mine, theirs = self.identity.split("/"), identity.split("/")
        if len(mine) != 4 or len(theirs) != 4 or mine[:2] != theirs[:2]:
            return False
        try:
            os.kill(int(theirs[2]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            # It is there; somebody else's.
            pass
        begun = _begun(theirs[2])
        return begun is not None and begun != theirs[3]


def _identity(pid: int) -> str:
    """Boot, process namespace, number and the moment it began, with slashes between."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""
    begun = _begun(str(pid))
    return "" if begun is None else f"{boot}/{namespace}/{pid}/{begun}"


def _begun(pid: str) -> str | None:
    """Return when a process began, in the kernel's ticks; "ended" for one that only waits to be reaped, None when that
    can't be seen."""
    try:
        fields = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # The state comes first behind the name; the 22nd field of all is the start.
    return "ended" if fields[0] in "ZX" else fields[19]
