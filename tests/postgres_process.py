"""A private PostgreSQL that a test may stop, break off, freeze and start again with the same data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType

from tests import processes
from tests.missing import skip_for_lack_of
from tests.waiting import wait_until

CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings for a server whose data needn't survive anything: nothing waits for the disk."""

CAREFUL = {"fsync": "off", "synchronous_commit": "on"}
"""Settings for one that is broken off: what it said was committed is there afterwards, short of a power cut."""


class PostgresProcess:
    """One cluster on a port that stays the same; its only user, `huoji`, needs no password on loopback.

    As a context manager it runs inside.
    """

    def __init__(self, settings: Mapping[str, str] = CAREFUL) -> None:
        """Choose a port; skips the test when there is no server program that this user could run."""
        self.programs = _programs()
        self._user = _server_user()
        self.port = processes.free_port()
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "timezone": "UTC",
            **settings,
        }
        self._folder = tempfile.TemporaryDirectory(prefix="huoji-postgres-", ignore_cleanup_errors=True)
        self._home = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers: Iterator[int] = count(1)

    def __enter__(self) -> PostgresProcess:
        self._make()
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> PostgresProcess:
        """Start it; returns when it answers."""
        log = self._home / "log.txt"
        # Stale sockets and locks of one that was broken off are its own to clear away.
        flags = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        server = processes.start(
            [self.programs / "postgres", "-D", self._home / "data", "-k", self._home, *flags],
            log,
            directory=self._home,
            user=self._user,
            end_signal="INT",
        )
        self._process = server
        ready = [self.programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={self.port}"]

        def answers() -> bool:
            assert server.poll() is None, f"PostgreSQL ended at once: {log.read_text()}"
            return subprocess.run(ready, check=False).returncode == 0

        wait_until(answers, timeout=30, what="PostgreSQL to answer")
        return self

    def stop(self) -> None:
        """Shut it down fast: open sessions are ended, everything is written. Harmless when it doesn't run."""
        self._end(signal.SIGINT)

    def break_off(self) -> None:
        """Shut it down immediately, as a crash would; it recovers at its next start."""
        self._end(signal.SIGQUIT)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL, without a driver, of one database."""
        return f"postgresql://huoji@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"huoji_{next(self._numbers)}"
        self._run("createdb", name)
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database; connections still open to it are cut."""
        self._run("dropdb", "--force", "--if-exists", name)

    def set(self, setting: str, value: str) -> None:
        """Change a setting of the running server that needs no restart."""
        # Each by itself: the first must not be in a transaction.
        commands = [f"ALTER SYSTEM SET {setting} = '{value}'", "SELECT pg_reload_conf()"]
        self._run("psql", "--dbname=postgres", *(f"--command={command}" for command in commands))

    def _make(self) -> None:
        if self._user is not None:
            shutil.chown(self._home, self._user)
        made = subprocess.run(
            [
                *[self.programs / "initdb", "--pgdata", self._home / "data", "--username=huoji"],
                *["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
        )
        assert made.returncode == 0, f"initdb failed: {made.stdout}{made.stderr}"

    def _end(self, sent: int) -> None:
        if self._process is not None:
            processes.end(self._process, sent, timeout=15)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        where = ["--host=127.0.0.1", f"--port={self.port}", "--username=huoji"]
        done = subprocess.run(
            [self.programs / program, *where, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr}"


def _programs() -> Path:
    """The folder with the newest initdb: Debian keeps one for each version, others put them on the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: _number(path.parent.parent.name)
    )
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path is None:
        skip_for_lack_of("PostgreSQL", "Debian: apt install postgresql")
    return Path(on_path).resolve().parent


def _server_user() -> str | None:
    """Who has to run the server: root may not, so the package's own user does; None is whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        pwd.getpwnam("postgres")
    except KeyError:
        skip_for_lack_of("PostgreSQL", "root can't run it and there is no user `postgres`")
    return "postgres"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
