"""The rows: PostgreSQL's statements, run by SQLite in memory.

The program asks the dialect's name and writes PostgreSQL's SQL; here that is translated, statement by statement, just as
far as it is used. One connection serves all simulated processes: transactions never overlap in it, and what overlapping
would do is up to ``tests.simulation.store``.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import StaticPool

from app.storage.leases import PARTITIONS
from app.storage.tables import metadata

__all__ = ["Functions", "Rows"]

_SERIES = (
    "(WITH RECURSIVE series(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < ?)"
    " SELECT n FROM series) AS listed WHERE true"
)
_TRANSLATIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\(extract\(epoch FROM clock_timestamp\(\)\) \* 1000\)::bigint", "database_ms()"),
        (r"= ANY ?\(\?\)", "IN (SELECT value FROM json_each(?))"),
        (r"SELECT array_agg\(id ORDER BY ([^)]*)\) (FROM .*)$",
         r'SELECT json_group_array(id) AS "ids [IDS]" FROM (SELECT id \2 ORDER BY \1)'),
        (r"generate_series\(0, \?\) AS n WHERE", _SERIES + " AND"),
        (r"generate_series\(0, \?\) AS n", _SERIES),
        (r"nextval\('(\w+)'\)", r"next_number('\1')"),
        (r"random\(\)", "chance()"),
        (r" FOR (KEY SHARE|UPDATE SKIP LOCKED)", ""),
        (r"RETURNING held\.(\w+), held\.(\w+)", r"RETURNING \1, \2"),
        (r"pg_advisory_xact_lock\(\d+\)", "1"),
    )
)  # fmt: skip


_UNNEST = re.compile(r"unnest\((\?(?:, \?)*)\) AS (\w+) ?\(([\w, ]+)\)( ON CONFLICT)?")


class _Text:
    """A translated statement; ``groups`` are the arrays that make up rows: where they begin, and how many."""

    __slots__ = ("groups", "sql")

    def __init__(self, statement: str) -> None:
        self.groups: list[tuple[int, int]] = []
        # First the arrays, whose places among the parameters are told by what stands before them.
        statement = _UNNEST.sub(lambda found: self._rows(statement, found), statement)
        for pattern, replacement in _TRANSLATIONS:
            statement = pattern.sub(replacement, statement)
        self.sql = statement

    def _rows(self, statement: str, found: re.Match[str]) -> str:
        names = found[3].split(", ")
        self.groups.append((statement.count("?", 0, found.start()), len(names)))
        picked = ", ".join(f"pick(each.value, {place}) AS {name}" for place, name in enumerate(names))
        # SQLite takes ON CONFLICT behind a table for a join's condition.
        conflict = " WHERE true ON CONFLICT" if found[4] else ""
        return f"(SELECT {picked} FROM json_each(?) AS each) AS {found[2]}{conflict}"


class Dialect(SQLiteDialect_pysqlite):
    """SQLite that passes for PostgreSQL."""

    name = "postgresql"
    supports_statement_cache = True
    _texts: dict[str, _Text] = {}  # noqa: RUF012 - translations never change
    picked: list[tuple[Any, ...]] = []  # noqa: RUF012 - the rows of the statement that is running

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        found = self._texts.get(statement)
        if found is None:
            found = self._texts[statement] = _Text(statement)
        if found.groups:
            values = list(parameters)
            self.picked.clear()
            for start, count in reversed(found.groups):
                rows = list(zip(*values[start : start + count], strict=True))
                first = len(self.picked)
                self.picked.extend(rows)
                values[start : start + count] = [list(range(first, first + len(rows)))]
            parameters = values
        cursor.execute(found.sql, _flat(parameters))


def _flat(parameters: Any) -> Any:
    if any(isinstance(value, list) for value in parameters):
        return tuple(json.dumps(value) if isinstance(value, list) else value for value in parameters)
    return parameters


registry.register("simulated", __name__, "Dialect")
sqlite3.register_converter("IDS", json.loads)

_TRIGGERS = (
    # Where a row has a number from PostgreSQL.
    ("CREATE TRIGGER number_inbox AFTER INSERT ON inbox BEGIN"
    " UPDATE inbox SET seq = next_number('inbox') WHERE id = NEW.id; END"),
    ("CREATE TRIGGER number_outbox AFTER INSERT ON outbox BEGIN"
    " UPDATE outbox SET seq = next_number('outbox') WHERE id = NEW.id; END"),
    # What the oracle wants to know of every transaction.
    ("CREATE TRIGGER tell_owner AFTER UPDATE OF state ON conversations WHEN OLD.state IS NOT NEW.state BEGIN"
    " SELECT tell('state', NEW.id, NEW.state, OLD.state); END"),
    ("CREATE TRIGGER tell_change AFTER UPDATE ON conversations BEGIN"
    " SELECT tell('conversation', NEW.id, NEW.version, OLD.version); END"),
    ("CREATE TRIGGER tell_inbox AFTER UPDATE OF state ON inbox WHEN OLD.state IS NOT NEW.state BEGIN"
    " SELECT tell('inbox', NEW.id, NEW.state, NEW.partition); END"),
    ("CREATE TRIGGER tell_stored AFTER INSERT ON inbox WHEN NEW.state = 'open' BEGIN"
    " SELECT tell('stored', NEW.id, NEW.dedupe_key, NEW.partition); END"),
    ("CREATE TRIGGER tell_outbox AFTER UPDATE OF state ON outbox WHEN OLD.state IS NOT NEW.state BEGIN"
    " SELECT tell('outbox', NEW.id, NEW.state, NEW.partition); END"),
    ("CREATE TRIGGER tell_reply AFTER INSERT ON outbox BEGIN"
    " SELECT tell('reply', NEW.id, NEW.author, NEW.conversation_id); END"),
    ("CREATE TRIGGER tell_lease AFTER UPDATE ON partition_leases BEGIN"
    " SELECT tell('lease', NEW.partition, NEW.owner, NEW.epoch); END"),
)  # fmt: skip


class Functions:
    """What SQL calls, of the world that is running now."""

    def __init__(self) -> None:
        self.database_ms: Callable[[], int] = lambda: 0
        self.next_number: Callable[[str], int] = lambda name: 0
        self.chance: Callable[[], float] = lambda: 0.0
        self.tell: Callable[..., None] = lambda *what: None


class Rows:
    """All rows, empty again for each run."""

    def __init__(self) -> None:
        self.functions = functions = Functions()
        self._engine = create_engine(
            "simulated://",
            poolclass=StaticPool,
            connect_args={
                "check_same_thread": False,
                "isolation_level": None,
                "detect_types": sqlite3.PARSE_COLNAMES,
            },
        )
        self.connection: Connection = self._engine.connect()
        self.raw: sqlite3.Connection = self.connection.connection.dbapi_connection  # pyright: ignore[reportAttributeAccessIssue]
        # Past SQLAlchemy, which makes much of such a short statement.
        event.listen(self._engine, "begin", lambda _connection: self.raw.execute("BEGIN"))
        plain = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(plain)
        with plain.connect() as connection:
            made: sqlite3.Connection = connection.connection.dbapi_connection  # pyright: ignore[reportAssignmentType]
            for trigger in _TRIGGERS:
                made.execute(trigger)
            made.execute("CREATE INDEX ix_inbox_lane ON inbox (account_id, lane_key) WHERE state = 'open'")
            made.executemany(
                "INSERT INTO partition_leases (partition, epoch, owner, lease_until_ms) VALUES (?, 0, '', 0)",
                [(number,) for number in range(PARTITIONS)],
            )
            made.commit()
            self.raw.deserialize(made.serialize())
        plain.dispose()
        tables = [name for (name,) in self.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
        self._emptied = [name for name in tables if name != "partition_leases"]
        self.raw.create_function("database_ms", 0, lambda: functions.database_ms())
        self.raw.create_function("next_number", 1, lambda name: functions.next_number(name))
        self.raw.create_function("pick", 2, lambda row, place: Dialect.picked[row][place])
        self.raw.create_function("chance", 0, lambda: functions.chance())
        self.raw.create_function("tell", 4, lambda *what: functions.tell(*what))

    def clear(self) -> None:
        """Be as after the first migration."""
        self.functions.tell = lambda *what: None
        for name in self._emptied:
            self.raw.execute(f"DELETE FROM {name}")
        self.raw.execute("UPDATE partition_leases SET epoch = 0, owner = ''")

    def all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Look, past everything simulated."""
        return self.raw.execute(query, values).fetchall()

    def close(self) -> None:
        """Let go of the memory."""
        self.connection.close()
        self._engine.dispose()
