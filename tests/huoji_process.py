"""The real program, run from outside: started, watched, stopped or killed."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tests import processes
from tests.waiting import wait_until


class HuojiProcess:
    """One `huoji serve` or `huoji demo` in a process of its own, with its data in `folder`.

    Start it again after `kill` or `terminate`, and it goes on with the same data on the same port. As a context
    manager it is started at entry and killed at exit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: Literal["serve", "demo"] = "serve",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        program: Sequence[str] = (sys.executable, "-m", "app.cli"),
    ) -> None:
        """`environment` comes on top of this process's, less its own HUOJI_ settings.

        The database is SQLite in `folder` unless HUOJI_DATABASE_URL is given. `program`: how `huoji` is run.
        """
        self.folder = folder
        self.port = processes.free_port() if port is None else port
        self.log_file = folder / "huoji.log"
        self._command = [*program, command, "--port", str(self.port), *arguments]
        # Without its compiled modules the program would take seconds longer to start than anybody's does.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HUOJI_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        defaults: dict[str, str] = {"PYTHONUNBUFFERED": "1"}
        if command == "serve":
            defaults["HUOJI_DATABASE_URL"] = f"sqlite:///{folder / 'huoji.db'}"
        self.environment = {**inherited, **defaults, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> HuojiProcess:
        return self.start()

    def __exit__(self, *unused: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The program's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; the program must have been started."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """CPU time it has used so far: what its work costs, however busy the machine is."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def log(self) -> str:
        """Everything printed so far, over all starts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def start(self, *, wait: bool = True, timeout: float = 30.0) -> HuojiProcess:
        """Start the program; unless `wait` is off, return when /readyz answers 200.

        Raises AssertionError with the end of its log when it ends early or isn't ready after `timeout` seconds.
        """
        assert not self.running, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = processes.start(
            self._command, self.log_file, environment=self.environment, directory=self.folder
        )
        if wait:
            self.wait_ready(timeout=timeout)
        return self

    def wait_ready(self, *, timeout: float = 30.0) -> None:
        """Return when /readyz answers 200; fails like `start`."""

        def ready() -> bool:
            status = self._started().poll()
            assert status is None, f"huoji ended with status {status}:\n{self.log[-4000:]}"
            return self.get_status("/readyz") == 200

        try:
            wait_until(ready, timeout=timeout, what="huoji to be ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-4000:]}") from error

    def get_status(self, path: str) -> int | None:
        """The status that a GET of `path` answers; None while nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def wait_exit(self, *, timeout: float = 20.0) -> int:
        """Wait for the program to end by itself; returns its status."""
        return self._started().wait(timeout)

    def terminate(self, *, timeout: float = 20.0) -> int:
        """Ask it to stop as a service manager does (SIGTERM), wait, and return its status."""
        return processes.end(self._started(), signal.SIGTERM, timeout=timeout)

    def kill(self) -> None:
        """End it at once (SIGKILL), with nothing flushed; harmless when it has ended or never began."""
        if self._process is not None:
            processes.end(self._process, signal.SIGKILL, timeout=10)

    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process
