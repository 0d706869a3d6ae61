"""Taking stored work from PostgreSQL in order: the program's own statements beside the bare partition-owner loop.

Both work off the same number of stored events, oldest first, in transactions of 50: the bare loop selects the next 50
open rows of its partitions, marks them done and commits, and does nothing else. Huoji's way reads the ids of everything
open at once, fetches the rows in pages, and marks them done under a check of its partitions' epochs.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import Connection, text

from app.core.metrics import Metrics
from app.pipeline.backlog import PAGE, open_ids, open_rows
from app.pipeline.commit import FINISH_EVENTS
from app.storage.database import Database
from app.storage.leases import PARTITIONS, current_epochs
from app.storage.urls import parse_database_url

ROWS = 10_000
BATCH = 50

_FILL = text(
    "INSERT INTO inbox (id, account_id, channel, kind, dedupe_key, lane_key, partition, headers, body, received_at_ms,"
    " state) SELECT CAST(:first AS bigint) + n, (SELECT min(id) FROM accounts), 'generic', 'message', 'dequeue-' || (CAST(:first AS bigint) + n),"
    " 'c-' || n % 1000, n % 64, '{}', convert_to(repeat('x', 400), 'UTF8'), 0, 'open' FROM generate_series(1, CAST(:rows AS int)) n"
)
_NEXT = (
    "SELECT id, account_id, channel, lane_key, partition, headers, body FROM inbox"
    " WHERE state = 'open' AND partition = ANY($1::smallint[]) ORDER BY seq LIMIT $2"
)
_DONE = "UPDATE inbox SET state = 'done', done_at_ms = $2 WHERE id = ANY($1::bigint[])"


@dataclass(frozen=True, slots=True)
class DequeueSpeed:
    """Rows a second, of either."""

    bare: float
    ours: float


async def measure_dequeue(database_url: str) -> DequeueSpeed:
    """Work off ``ROWS`` rows each way; nothing else may use the database meanwhile."""
    database = Database(database_url, metrics=Metrics())
    await database.open()
    try:
        await _fill(database)
        bare = await _bare(database_url)
        await _fill(database)
        return DequeueSpeed(bare, await _ours(database))
    finally:
        await database.close()


async def _fill(database: Database) -> None:
    await database.write(
        lambda connection: connection.execute(_FILL, {"first": time.time_ns(), "rows": ROWS}).rowcount
    )


async def _bare(database_url: str) -> float:
    plain = parse_database_url(database_url).set(drivername="postgresql")
    connection = await asyncpg.connect(plain.render_as_string(hide_password=False))
    partitions = list(range(PARTITIONS))
    began, taken = time.monotonic(), 0
    while True:
        async with connection.transaction():
            rows = await connection.fetch(_NEXT, partitions, BATCH)
            if not rows:
                break
            await connection.execute(_DONE, [row["id"] for row in rows], 1)
        taken += len(rows)
    took = time.monotonic() - began
    await connection.close()
    return taken / took


async def _ours(database: Database) -> float:
    began, taken = time.monotonic(), 0
    ids = await database.read(lambda connection: open_ids(connection, set(range(PARTITIONS))))
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        rows = await database.read(lambda connection, page=page: open_rows(connection, page))
        for first in range(0, len(page), BATCH):
            batch = [rows[one] for one in page[first : first + BATCH]]

            def finish(connection: Connection, batch: list[Mapping[str, Any]] = batch) -> None:
                current_epochs(connection, {row["partition"] for row in batch})
                FINISH_EVENTS.run(connection, [_done(row["id"]) for row in batch])

            await database.write(finish)
            taken += len(batch)
    return taken / (time.monotonic() - began)


def _done(event_id: int) -> dict[str, Any]:
    return {
        "id_": event_id, "state": "done", "reason": None, "message_id": None, "conversation_id": None, "done_at_ms": 1,
    }  # fmt: skip
