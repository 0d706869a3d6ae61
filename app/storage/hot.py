"""Statements that run for every message: compiled once a dialect, executed with plain rows.

SQLAlchemy prepares the parameters of every row anew at each execution, which costs more than SQLite takes to store the
row. All our columns hold integers and texts that need no conversion, so a row can go to the driver as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.sql.expression import UpdateBase

__all__ = ["HotStatement", "bound_columns"]

Row = Mapping[str, Any]
_Prepared = tuple[str, Callable[[Row], tuple[Any, ...]]]


def bound_columns(*names: str) -> dict[str, Any]:
    """Return values for an INSERT or UPDATE that binds exactly these columns, each by its own name."""
    return {name: bindparam(name) for name in names}


class HotStatement:
    """An INSERT or UPDATE of many rows. Every row must have every bound name."""

    def __init__(self, statement: UpdateBase, **by_dialect: UpdateBase) -> None:
        """Take a statement whose parameters are all bound by name.

        ``by_dialect``: other statements for databases that write it another way (``postgresql=…``).
        """
        self._statement = statement
        self._by_dialect = by_dialect
        self._prepared: dict[str, _Prepared] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Execute the statement for every row."""
        prepared = self._prepared.get(connection.dialect.name)
        if prepared is None:
            prepared = self._prepared[connection.dialect.name] = self._prepare(connection)
        text, values = prepared
        connection.exec_driver_sql(text, [values(row) for row in rows])

    def _prepare(self, connection: Connection) -> _Prepared:
        statement = self._by_dialect.get(connection.dialect.name, self._statement)
        compiled = statement.compile(dialect=connection.dialect)
        names: Sequence[str] = compiled.positiontup or ()
        if any(value is not None for value in compiled.params.values()):
            raise ValueError("a hot statement's constants belong into its text, as literal_column")
        return compiled.string, itemgetter(*names)
