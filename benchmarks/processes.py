"""CPU time and memory of running processes, read from Linux's /proc."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """What one line of /proc/PID/stat says."""

    pid: int
    parent: int
    name: str
    own_seconds: float
    """User and system time of all its threads, ended ones too."""
    children_seconds: float
    """The same of its children that ended and were waited for."""


def read_stat(pid: int) -> Stat | None:
    """Return the figures of ``pid``, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may itself hold spaces and brackets.
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    utime, stime, cutime, cstime = (int(value) * _TICK for value in fields[11:15])
    return Stat(pid, int(fields[1]), name, utime + stime, cutime + cstime)


def all_stats() -> list[Stat]:
    """Return the figures of every process of the machine."""
    found = (read_stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [stat for stat in found if stat is not None]


def tree(pid: int) -> list[Stat]:
    """Return ``pid`` and all its descendants."""
    stats = all_stats()
    members = {pid}
    grown = True
    while grown:
        more = {stat.pid for stat in stats if stat.parent in members} - members
        grown = bool(more)
        members |= more
    return [stat for stat in stats if stat.pid in members]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that ``pid``, its threads and its children have used, in seconds."""
    return sum(stat.own_seconds + stat.children_seconds for stat in tree(pid))


def resident_mb(pid: int) -> float:
    """Return the resident memory of ``pid`` and its descendants, in 10^6 bytes."""
    total = 0
    for stat in tree(pid):
        try:
            lines = Path(f"/proc/{stat.pid}/status").read_text("utf-8").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    return total / 1e6


def postgres_cpu_seconds() -> float | None:
    """Return the CPU time of all PostgreSQL servers on this machine, or None when there is none."""
    stats = [stat for stat in all_stats() if stat.name.startswith("postgres")]
    if not stats:
        return None
    pids = {stat.pid for stat in stats}
    return sum(stat.own_seconds + (0.0 if stat.parent in pids else stat.children_seconds) for stat in stats)


def settle(pid: int, longest: float = 10.0) -> None:
    """Wait until ``pid`` uses less than a tenth of a core, at most ``longest`` seconds."""
    end = time.monotonic() + longest
    before = cpu_seconds(pid)
    while time.monotonic() < end:
        time.sleep(0.2)
        now = cpu_seconds(pid)
        if now - before < 0.02:
            return
        before = now
