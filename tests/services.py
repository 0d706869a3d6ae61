"""Private PostgreSQL and Redis servers: started on demand, once for a test run, gone when it ends.

Nothing of the machine's own servers is touched: data and sockets lie in a temporary folder, the port is a free one.
A test that needs a server whose program is missing is skipped, and the end of the run says so in capitals.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests import processes
from tests.missing import skip_for_lack_of
from tests.redis_process import RedisProcess, redis_command
from tests.waiting import wait_until


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running private cluster whose only user, `huoji`, needs no password on loopback."""

    programs: Path
    port: int
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

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

    def _run(self, program: str, *arguments: str) -> None:
        where = ["--host=127.0.0.1", f"--port={self.port}", "--username=huoji"]
        done = subprocess.run(
            [self.programs / program, *where, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private PostgreSQL cluster; skips when there is no server program that this user could run."""
    programs = _postgres_programs()
    user = _postgres_user()
    with tempfile.TemporaryDirectory(prefix="huoji-postgres-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        data = home / "data"
        if user is not None:
            shutil.chown(home, user)
        made = subprocess.run(
            [
                *[programs / "initdb", "--pgdata", data, "--username=huoji", "--auth=trust"],
                *["--encoding=UTF8", "--locale=C", "--no-sync"],
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=home,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
        assert made.returncode == 0, f"initdb failed: {made.stdout}{made.stderr}"
        port = processes.free_port()
        # Nothing here must survive a power cut, so nothing waits for the disk.
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(home),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "timezone": "UTC",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        log = home / "log.txt"
        server = processes.start(
            [programs / "postgres", "-D", data, *flags], log, directory=home, user=user, end_signal="INT"
        )
        try:
            ready = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]

            def answers() -> bool:
                assert server.poll() is None, f"PostgreSQL ended at once: {log.read_text()}"
                return subprocess.run(ready, check=False).returncode == 0

            wait_until(answers, timeout=30, what="PostgreSQL to answer")
            yield PostgresServer(programs, port)
        finally:
            # SIGINT is PostgreSQL's fast shutdown: open sessions are ended.
            processes.end(server, signal.SIGINT, timeout=15)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database that only this test uses."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh, empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'huoji.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[int]:
    """The port of a private Redis that keeps nothing on disk; skips when there is no server program."""
    with RedisProcess() as server:
        yield server.port


@pytest.fixture
def redis_url(redis_server: int) -> str:
    """The URL of an empty Redis."""
    assert redis_command(redis_server, "FLUSHALL") == b"+OK"
    return f"redis://127.0.0.1:{redis_server}/0"


def _postgres_programs() -> Path:
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


def _postgres_user() -> str | None:
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
