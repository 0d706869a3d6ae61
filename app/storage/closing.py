"""What a transaction does last, right before it commits, whoever asked for it and whenever.

For writes under a lock that all processes share: taken only when everything else is written, it is held for no longer than
the commit, and nobody who holds it ever waits for another lock, so that no two processes wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

__all__ = ["begin", "cut", "do_last", "end", "finish", "mark"]

Step = Callable[[Connection, Sequence[Any]], None]
_KEY = "huoji.closing"


def begin(connection: Connection) -> None:
    """Start to collect: called by whoever runs the transaction."""
    connection.info[_KEY] = []


def do_last(connection: Connection, step: Step, rows: Sequence[Any]) -> None:
    """Have ``step`` called at the end, once with the rows of all who asked, in the order they did.

    Where nobody collects, it is called at once.
    """
    collected: list[tuple[Step, Sequence[Any]]] | None = connection.info.get(_KEY)
    if collected is None:
        step(connection, rows)
    else:
        collected.append((step, rows))


def mark(connection: Connection) -> int:
    """Return a place to which ``cut`` can go back, as a savepoint does."""
    return len(connection.info[_KEY])


def cut(connection: Connection, to: int) -> None:
    """Forget what was asked for since a mark: it was rolled back."""
    del connection.info[_KEY][to:]


def finish(connection: Connection) -> None:
    """Do it; the commit must be the next thing."""
    by_step: dict[Step, list[Any]] = {}
    for step, rows in connection.info[_KEY]:
        by_step.setdefault(step, []).extend(rows)
    for step, rows in by_step.items():
        step(connection, rows)


def end(connection: Connection) -> None:
    """Stop collecting; a connection that broke meanwhile has forgotten by itself."""
    if not connection.invalidated:
        connection.info.pop(_KEY, None)
