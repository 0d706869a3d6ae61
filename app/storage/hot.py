"""Statements that run for every message: compiled once a dialect, executed with plain rows.

SQLAlchemy prepares every execution and the parameters of every row anew, which costs more than the databases take to do
the work. All our columns hold integers, texts and bytes that need no conversion, so rows can go to the driver as they
are. SQLite, whose driver runs on this thread, takes them one by one. PostgreSQL takes a batch as one statement over
arrays, a column each: a round trip and a plan for all rows instead of one for every row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Table,
    Update,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

__all__ = ["HotInsert", "HotLookup", "HotQuery", "HotUpdate", "driver_connection", "driver_error"]

Row = Mapping[str, Any]
_Prepared = tuple[str, Callable[[Row], tuple[Any, ...]]]


def driver_connection(connection: Connection) -> sqlite3.Connection:
    """Return SQLite's own connection under one of SQLAlchemy."""
    return connection.connection.dbapi_connection  # pyright: ignore[reportReturnType]


def driver_error(connection: Connection, error: sqlite3.Error, statement: str) -> BaseException:
    """Return the driver's error as SQLAlchemy would have raised it, without the parameters: they are buyers' texts."""
    return DBAPIError.instance(
        statement, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
    )


class _HotStatement:
    """A statement over many rows. Every row must have every bound name."""

    def __init__(
        self,
        types: Mapping[str, TypeEngine[Any]],
        one: Callable[[Mapping[str, ColumnElement[Any]]], Any],
        many: Callable[[Any], Any],
    ) -> None:
        """``one`` builds it for a row's parameters, ``many`` for a table of all rows; both have the names of ``types``."""
        self._types = types
        self._one = one
        self._many = many
        self._prepared: dict[tuple[str, str], _Prepared] = {}

    def prepared(self, connection: Connection) -> _Prepared:
        """Return the text for this database, and what takes a row's parameters out of it in their order."""
        dialect = connection.dialect
        written = (dialect.name, dialect.paramstyle)
        known = self._prepared.get(written)
        if known is None:
            known = self._prepared[written] = self._prepare(connection)
        return known

    def at_once(self, connection: Connection, rows: Sequence[Row]) -> CursorResult[Any]:
        """Execute it for all rows together (PostgreSQL)."""
        text, values = self.prepared(connection)
        return connection.exec_driver_sql(text, tuple(map(list, zip(*map(values, rows), strict=True))))

    def _prepare(self, connection: Connection) -> _Prepared:
        if connection.dialect.name == "sqlite":
            statement = self._one({name: bindparam(name) for name in self._types})
        else:
            arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in self._types.items()]
            names = [column(name, kind) for name, kind in self._types.items()]
            statement = self._many(func.unnest(*arrays).table_valued(*names, name="given").render_derived())
        compiled = statement.compile(dialect=connection.dialect)
        bound: Sequence[str] = compiled.positiontup or ()
        if any(constant is not None for constant in compiled.params.values()):
            raise ValueError("a hot statement's constants belong into its text, as literal_column")
        return compiled.string, itemgetter(*bound)


class _HotWrite(_HotStatement):
    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute the statement for every row; return how many rows it changed."""
        if connection.dialect.name != "sqlite":
            return self.at_once(connection, rows).rowcount
        text, values = self.prepared(connection)
        try:
            return driver_connection(connection).executemany(text, map(values, rows)).rowcount
        except sqlite3.Error as error:
            raise driver_error(connection, error, text) from error


class HotInsert(_HotWrite):
    """An INSERT of many rows."""

    def __init__(
        self, table: Table, columns: Iterable[str], on_conflict: Callable[[Any], Any] = lambda insert: insert
    ) -> None:
        """``on_conflict`` adds that clause to either dialect's INSERT; without one a conflict is an error.

        With ``DO UPDATE`` no two rows of one batch may have the same key: PostgreSQL refuses that.
        """
        types = {name: table.c[name].type for name in columns}
        super().__init__(
            types,
            lambda given: on_conflict(sqlite.insert(table).values(given)),
            lambda rows: on_conflict(
                postgresql.insert(table).from_select(list(types), select(*rows.columns))
            ),
        )


class HotUpdate(_HotWrite):
    """An UPDATE of many rows, each found by its own values. No two rows of one batch may find the same."""

    def __init__(
        self, bound: Mapping[str, Column[Any]], build: Callable[[Mapping[str, ColumnElement[Any]]], Update]
    ) -> None:
        """``bound``: the names that rows have, each with a column of its type; ``build`` puts them into the UPDATE."""
        super().__init__(
            {name: one.type for name, one in bound.items()},
            build,
            lambda rows: build({name: rows.columns[name] for name in bound}),
        )


class HotLookup(_HotStatement):
    """A SELECT of whole rows of a table, each by the values of some columns."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        """``columns``: at least two, which together are unique in the table."""
        self._names = table.columns.keys()

        def build(given: Mapping[str, Any]) -> Any:
            return select(table).where(*(table.c[name] == given[name] for name in columns))

        super().__init__(
            {name: table.c[name].type for name in columns}, build, lambda rows: build(rows.columns)
        )

    def find(self, connection: Connection, keys: Sequence[Row]) -> Sequence[Row]:
        """Return the rows that are there, for any of the keys."""
        if connection.dialect.name != "sqlite":
            return [dict(row) for row in self.at_once(connection, keys).mappings()]
        text, values = self.prepared(connection)
        run = driver_connection(connection).execute
        try:
            found = [row for key in keys for row in run(text, values(key))]
        except sqlite3.Error as error:
            raise driver_error(connection, error, text) from error
        return [dict(zip(self._names, row, strict=True)) for row in found]


class HotQuery:
    """A SELECT of the rows whose key is in a list."""

    def __init__(self, statement: Any, key: str, *, postgresql: Any = None) -> None:
        """Take a statement whose only parameter is an expanding one named ``key``; and PostgreSQL's, if it differs."""
        self._statement = statement
        self._key = key
        self._postgresql = statement if postgresql is None else postgresql
        self._texts: dict[int, str] = {}

    def rows(self, connection: Connection, keys: Collection[int | str]) -> Sequence[Any]:
        """Return the rows, as tuples; ``keys`` are not empty."""
        values = list(keys)
        if connection.dialect.name != "sqlite":
            return connection.execute(self._postgresql, {self._key: values}).all()
        text = self._texts.get(len(values))
        if text is None:
            compiled = self._statement.params({self._key: values}).compile(
                dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
            )
            text = self._texts[len(values)] = compiled.string
        try:
            return driver_connection(connection).execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise driver_error(connection, error, text) from error
