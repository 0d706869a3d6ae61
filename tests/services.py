"""Private PostgreSQL and Redis servers: started on demand, once for a test run, gone when it ends.

Nothing of the machine's own servers is touched: data and sockets lie in a temporary folder, the port is a free one.
A test that needs a server whose program is missing is skipped, and the end of the run says so in capitals.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_process import CARELESS, PostgresProcess
from tests.redis_process import RedisProcess, redis_command

PostgresServer = PostgresProcess
"""What the fixture below gives."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private PostgreSQL cluster; skips when there is no server program that this user could run."""
    with PostgresProcess(CARELESS) as server:
        yield server


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
