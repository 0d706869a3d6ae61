"""What a migration did to the tables, and what of it the programs from before it would stumble over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event, inspect

KEPT_BY_THEMSELVES = frozenset({"alembic_version", "schema_history"})
"""Tables that every migration writes to."""

GROWING = frozenset(
    {
        "audit", "buyers", "console_events", "conversations", "decisions", "delivery_attempts", "escalations",
        "idempotency_keys", "inbox", "messages", "order_cache", "outbox", "silent_orders",
    }
)  # fmt: skip
"""Tables that grow with the messages: an upgrade that changed their rows would hold everything up."""

_WRITES = re.compile(r'^\s*(?:UPDATE|DELETE\s+FROM|INSERT\s+INTO)\s+"?(\w+)', re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column as the database has it."""

    type: str
    nullable: bool
    has_default: bool


@dataclass(frozen=True)
class Table:
    """A table as the database has it. `rules`: its keys, and whatever else rows must obey."""

    columns: Mapping[str, Column]
    rules: frozenset[str]
    indexes: frozenset[str]


Shape = Mapping[str, Table]


def shape(connection: Connection) -> Shape:
    """Look at every table."""
    look = inspect(connection)
    found: dict[str, Table] = {}
    for name in look.get_table_names():
        if name in KEPT_BY_THEMSELVES or name.startswith("_alembic_tmp"):
            continue
        columns = {
            one["name"]: Column(
                str(one["type"]),
                bool(one["nullable"]),
                one.get("default") is not None or bool(one.get("identity")),
            )
            for one in look.get_columns(name)
        }
        rules = {f"primary key {look.get_pk_constraint(name)['constrained_columns']}"}
        rules |= {f"unique {one['column_names']}" for one in look.get_unique_constraints(name)}
        rules |= {f"check {one['sqltext']}" for one in look.get_check_constraints(name)}
        rules |= {
            f"foreign key {one['constrained_columns']} to {one['referred_table']}"
            for one in look.get_foreign_keys(name)
        }
        indexes: set[str] = set()
        for index in look.get_indexes(name):
            described = f"{index['name']} on {index['column_names']}"
            if index["unique"]:
                rules.add(f"unique index {described}")
            indexes.add(described)
        found[name] = Table(columns, frozenset(rules), frozenset(indexes))
    return found


@contextmanager
def written_tables(engine: Engine) -> Iterator[set[str]]:
    """Note which tables' rows are written."""
    written: set[str] = set()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found = _WRITES.match(statement)
        if found:
            written.add(found[1].lower())

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield written
    finally:
        event.remove(engine, "before_cursor_execute", note)


def objections(
    kind: str, before: Shape, after: Shape, written: set[str], *, growing: frozenset[str] = GROWING
) -> list[str]:
    """Return what a revision of this kind did and mustn't, in words."""
    touched = (written & before.keys()) - KEPT_BY_THEMSELVES
    if kind == "contract":
        return [f"writes the rows of {name}" for name in sorted(touched & growing)]
    if kind == "data":
        return [
            *([] if before == after else ["changes tables"]),
            *(f"writes the rows of {name}" for name in sorted(touched & growing)),
        ]
    found = [f"writes the rows of {name}" for name in sorted(touched)]
    for name, table in before.items():
        now = after.get(name)
        if now is None:
            found.append(f"drops {name}")
            continue
        found += [f"{name}: {one}" for one in _tightened(table, now)]
    return found


def _tightened(before: Table, after: Table) -> Iterator[str]:
    for name, column in before.columns.items():
        now = after.columns.get(name)
        if now is None:
            yield f"drops {name}"
            continue
        if now.type != column.type:
            yield f"makes {name} {now.type} instead of {column.type}"
        if column.nullable and not now.nullable:
            yield f"{name} mustn't be empty any more"
        if column.has_default and not now.has_default:
            yield f"{name} loses its default"
    for name, column in after.columns.items():
        if name not in before.columns and not column.nullable and not column.has_default:
            yield f"adds {name}, which older programs leave empty"
    yield from (f"takes away {rule}" for rule in sorted(before.rules - after.rules))
    yield from (f"adds {rule}" for rule in sorted(after.rules - before.rules))
    yield from (f"drops {index}" for index in sorted(before.indexes - after.indexes))


Step = Callable[[Connection], None]


def done_by(connection: Connection, step: Step) -> tuple[Shape, Shape, set[str]]:
    """Run a migration; return the tables before it and after it, and which tables' rows it wrote."""
    before = shape(connection)
    with written_tables(connection.engine) as written:
        step(connection)
    return before, shape(connection), written
