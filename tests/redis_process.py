"""A private Redis that a test may kill, freeze and start again empty."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests import processes
from tests.missing import skip_for_lack_of
from tests.waiting import wait_until


class RedisProcess:
    """One Redis on a port that stays the same; it keeps nothing on disk. As a context manager it runs inside."""

    def __init__(self) -> None:
        """Choose a port; skips the test when there is no server program."""
        program = shutil.which("redis-server")
        if program is None:
            skip_for_lack_of("redis-server", "Debian: apt install redis-server")
        self.port = processes.free_port()
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="huoji-redis-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisProcess:
        """Start it, empty; returns when it answers."""
        log = Path(self._folder.name) / "log.txt"
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        server = processes.start([*command, "--save", "", "--appendonly", "no"], log, end_signal="KILL")
        self._process = server

        def answers() -> bool:
            assert server.poll() is None, f"Redis ended at once: {log.read_text()}"
            return redis_command(self.port, "PING") == b"+PONG"

        wait_until(answers, timeout=15, what="Redis to answer")
        return self

    def kill(self) -> None:
        """End it at once; harmless when it has ended or never began."""
        if self._process is not None:
            processes.end(self._process, signal.SIGKILL, timeout=10)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: the system still takes connections for it, and nobody answers."""
        assert self._process is not None, "it doesn't run"
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None, "it doesn't run"
        self._process.send_signal(signal.SIGCONT)


def redis_command(port: int, command: str) -> bytes:
    """Send one inline command; the first line of the answer, or nothing while the server isn't up."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(200).split(b"\r\n")[0]
    except OSError:
        return b""
