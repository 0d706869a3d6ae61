"""Processes that the tests start and that never outlive the test run."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    user: str | None = None,
    end_signal: str = "KILL",
) -> subprocess.Popen[bytes]:
    """Start `command` with its output appended to `log`.

    Where the system offers it (Linux), the kernel sends `end_signal` to the process when the test run dies, however
    it dies. `user` runs it as somebody else, which only root can ask for.
    """
    setpriv = shutil.which("setpriv")
    watched = [setpriv, "--pdeathsig", end_signal, "--"] if setpriv else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*watched, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )


def end(process: subprocess.Popen[bytes], sent: int, *, timeout: float) -> int:
    """Send a signal, wait up to `timeout` seconds, kill if need be; returns the exit status."""
    if process.poll() is None:
        process.send_signal(sent)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(5)
