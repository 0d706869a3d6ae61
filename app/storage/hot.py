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
    Table,
    Update,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import UpdateBase
from sqlalchemy.types import TypeEngine

__all__ = ["HotInsert", "HotQuery", "HotUpdate", "driver_connection", "driver_error"]

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


class _HotWrite:
    """A statement that writes many rows. Every row must have every bound name."""

    def __init__(self, types: Mapping[str, TypeEngine[Any]]) -> None:
        self._types = types
        self._prepared: dict[tuple[str, str], _Prepared] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute the statement for every row; return how many rows it changed."""
        dialect = connection.dialect
        written = (dialect.name, dialect.paramstyle)
        prepared = self._prepared.get(written)
        if prepared is None:
            prepared = self._prepared[written] = self._prepare(connection)
        text, values = prepared
        if dialect.name == "sqlite":
            try:
                return driver_connection(connection).executemany(text, map(values, rows)).rowcount
            except sqlite3.Error as error:
                raise driver_error(connection, error, text) from error
        columns = tuple(map(list, zip(*map(values, rows), strict=True)))
        return connection.exec_driver_sql(text, columns).rowcount

    def _prepare(self, connection: Connection) -> _Prepared:
        if connection.dialect.name == "sqlite":
            statement = self._row_by_row({name: bindparam(name) for name in self._types})
        else:
            arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in self._types.items()]
            names = [column(name, kind) for name, kind in self._types.items()]
            rows = func.unnest(*arrays).table_valued(*names, name="given").render_derived()
            statement = self._all_at_once(rows)
        compiled = statement.compile(dialect=connection.dialect)
        bound: Sequence[str] = compiled.positiontup or ()
        if any(constant is not None for constant in compiled.params.values()):
            raise ValueError("a hot statement's constants belong into its text, as literal_column")
        return compiled.string, itemgetter(*bound)

    def _row_by_row(self, given: Mapping[str, ColumnElement[Any]]) -> UpdateBase:
        raise NotImplementedError

    def _all_at_once(self, rows: Any) -> UpdateBase:
        raise NotImplementedError


class HotInsert(_HotWrite):
    """An INSERT of many rows."""

    def __init__(
        self, table: Table, columns: Iterable[str], on_conflict: Callable[[Any], Any] = lambda insert: insert
    ) -> None:
        """``on_conflict`` adds that clause to either dialect's INSERT; without one a conflict is an error.

        With ``DO UPDATE`` no two rows of one batch may have the same key: PostgreSQL refuses that.
        """
        self._table = table
        self._on_conflict = on_conflict
        super().__init__({name: table.c[name].type for name in columns})

    def _row_by_row(self, given: Mapping[str, ColumnElement[Any]]) -> UpdateBase:
        return self._on_conflict(sqlite.insert(self._table).values(given))

    def _all_at_once(self, rows: Any) -> UpdateBase:
        return self._on_conflict(
            postgresql.insert(self._table).from_select(list(self._types), select(*rows.columns))
        )


class HotUpdate(_HotWrite):
    """An UPDATE of many rows, each found by its own values. No two rows of one batch may find the same."""

    def __init__(
        self, bound: Mapping[str, Column[Any]], build: Callable[[Mapping[str, ColumnElement[Any]]], Update]
    ) -> None:
        """``bound``: the names that rows have, each with a column of its type; ``build`` puts them into the UPDATE."""
        self._build = build
        super().__init__({name: one.type for name, one in bound.items()})

    def _row_by_row(self, given: Mapping[str, ColumnElement[Any]]) -> UpdateBase:
        return self._build(given)

    def _all_at_once(self, rows: Any) -> UpdateBase:
        return self._build({name: rows.columns[name] for name in self._types})


class HotQuery:
    """A SELECT of the rows whose key is in a list."""

    def __init__(self, statement: Any, key: str, **by_dialect: Any) -> None:
        """Take a statement whose only parameter is an expanding one named ``key``; ``by_dialect`` as above."""
        self._statement = statement
        self._key = key
        self._by_dialect = by_dialect
        self._texts: dict[int, str] = {}

    def rows(self, connection: Connection, keys: Collection[int | str]) -> Sequence[Any]:
        """Return the rows, as tuples; ``keys`` are not empty."""
        values = list(keys)
        if connection.dialect.name != "sqlite":
            statement = self._by_dialect.get(connection.dialect.name, self._statement)
            return connection.execute(statement, {self._key: values}).all()
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
