"""A file with a broken page is never written to again, is read as far as it can be, and is left as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from app.core.errors import ConfigurationError, UnavailableError
from app.core.metrics import Metrics
from app.storage.damage import find_damage, require_sound
from app.storage.database import Database


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A database with two tables, of which `bad` has a broken page."""
    file = tmp_path / "huoji.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE good (n INTEGER)")
        connection.execute("CREATE TABLE bad (n INTEGER)")
        connection.execute("INSERT INTO good VALUES (7)")
        connection.commit()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'bad'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as pages:
        pages.seek((page - 1) * size)
        pages.write(b"\xa5" * size)
    return file


@pytest.fixture
async def database(broken: Path) -> AsyncIterator[Database]:
    """The same, open."""
    database = Database(f"sqlite:///{broken}", metrics=Metrics())
    await database.open()
    yield database
    await database.close()


def read_good(connection: Connection) -> int:
    return connection.execute(text("SELECT n FROM good")).scalar_one()


def write_good(connection: Connection) -> int:
    return connection.execute(text("INSERT INTO good VALUES (8)")).rowcount


def read_bad(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT n FROM bad")).scalars())


def write_bad(connection: Connection) -> int:
    return connection.execute(text("INSERT INTO bad VALUES (8)")).rowcount


@pytest.mark.parametrize("how", ["a write", "a read"])
async def test_what_meets_a_broken_page_ends_writing_and_leaves_reading(
    database: Database, broken: Path, how: str
) -> None:
    assert await database.read(read_good) == 7
    assert not database.is_damaged
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(UnavailableError) as caught:
                await (database.write(write_bad) if how == "a write" else database.read(read_bad))
            assert (caught.value.code, caught.value.status) == ("database_damaged", 503)
        with pytest.raises(UnavailableError) as caught:
            await database.write(write_good)
        assert caught.value.code == "database_damaged"
    assert database.is_damaged
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["storage.damaged"]
    assert await database.read(read_good) == 7


def test_a_start_refuses_a_broken_file_and_changes_nothing(broken: Path) -> None:
    before = broken.read_bytes()
    with pytest.raises(ConfigurationError, match="Nothing was changed") as caught:
        require_sound(broken)
    assert caught.value.code == "database_damaged"
    assert ".recover" in caught.value.message
    assert broken.read_bytes() == before


def test_what_is_no_database_at_all_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "huoji.db"
    file.write_bytes(b"something else" * 1000)
    with pytest.raises(ConfigurationError, match="not a database"):
        require_sound(file)


def test_a_start_does_not_wait_for_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "huoji.db"
    require_sound(file)
    assert not file.exists()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        connection.commit()
    assert find_damage(file, seconds=60) == (None, True)
    # Given up at once: nothing is said about what wasn't seen.
    assert find_damage(file, seconds=0) in ((None, False), (None, True))
    require_sound(file, seconds=0)
