"""Statements that run for every message: compiled once a dialect, executed with plain rows.

SQLAlchemy prepares every execution and the parameters of every row anew, which costs more than SQLite takes to do the
work. All our columns hold integers, texts and bytes that need no conversion, so rows can go to the driver as they are;
on SQLite, whose driver runs on this thread, they go to it straight.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import UpdateBase

__all__ = ["HotQuery", "HotStatement", "bound_columns", "driver_connection", "driver_error"]

Row = Mapping[str, Any]
_Prepared = tuple[str, Callable[[Row], tuple[Any, ...]]]


def bound_columns(*names: str) -> dict[str, Any]:
    """Return values for an INSERT or UPDATE that binds exactly these columns, each by its own name."""
    return {name: bindparam(name) for name in names}


def driver_connection(connection: Connection) -> sqlite3.Connection:
    """Return SQLite's own connection under one of SQLAlchemy."""
    return connection.connection.dbapi_connection  # pyright: ignore[reportReturnType]


def driver_error(connection: Connection, error: sqlite3.Error, statement: str) -> BaseException:
    """Return the driver's error as SQLAlchemy would have raised it, without the parameters: they are buyers' texts."""
    return DBAPIError.instance(
        statement, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
    )


class HotStatement:
    """An INSERT or UPDATE of many rows. Every row must have every bound name."""

    def __init__(self, statement: UpdateBase, **by_dialect: UpdateBase) -> None:
        """Take a statement whose parameters are all bound by name.

        ``by_dialect``: other statements for databases that write it another way (``postgresql=…``).
        """
        self._statement = statement
        self._by_dialect = by_dialect
        self._prepared: dict[str, _Prepared] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute the statement for every row; return how many rows it changed, -1 where the driver can't tell."""
        prepared = self._prepared.get(connection.dialect.name)
        if prepared is None:
            prepared = self._prepared[connection.dialect.name] = self._prepare(connection)
        text, values = prepared
        if connection.dialect.name == "sqlite":
            try:
                return driver_connection(connection).executemany(text, map(values, rows)).rowcount
            except sqlite3.Error as error:
                raise driver_error(connection, error, text) from error
        return connection.exec_driver_sql(text, [values(row) for row in rows]).rowcount

    def _prepare(self, connection: Connection) -> _Prepared:
        statement = self._by_dialect.get(connection.dialect.name, self._statement)
        compiled = statement.compile(dialect=connection.dialect)
        names: Sequence[str] = compiled.positiontup or ()
        if any(value is not None for value in compiled.params.values()):
            raise ValueError("a hot statement's constants belong into its text, as literal_column")
        return compiled.string, itemgetter(*names)


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
