"""From the stored inbox back into lanes: at start, and whenever a row is open that no lane knows.

While the backlog is being read, messages that arrive are stored and acked but not handed to their lanes: the reader
comes to them in the order of their ids, so that nothing overtakes an older message of its conversation. What arrives
during the last read is handed over right after it; so the reader catches up however fast messages come in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, select

from app.channels.base import ChannelAdapter
from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.domain.delivery import Account, RawDelivery
from app.domain.messages import EventKind, InboundEvent
from app.pipeline.inbox import Directory, InboxItem, InboxResult
from app.pipeline.lanes import Lanes
from app.storage.database import Database
from app.storage.tables import inbox

__all__ = ["Backlog"]

log = structlog.get_logger(__name__)

PAGE = 2_000
MOST_WAITING = 10_000
"""Events held in lanes at once while the backlog is worked off; the rest waits in the database."""

SWEEP_SECONDS = 15.0
SWEEP_AGE_MS = 5_000
"""An open row this old that no lane knows was missed (a lane that broke off); it is taken up again."""


class Backlog:
    """Feeds the lanes."""

    def __init__(self, *, database: Database, directory: Directory, lanes: Lanes, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._lanes = lanes
        self._clock = clock
        self._is_live = False
        self._arrived: list[InboxItem] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_live(self) -> bool:
        """Whether everything older is in its lane, so that arrivals go straight to theirs."""
        return self._is_live

    def start(self) -> None:
        """Begin reading what was left open, then keep watch."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="backlog")

    async def stop(self) -> None:
        """End; nothing is lost, since every row stays open until it is worked off."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def stored(self, item: InboxItem, result: InboxResult) -> None:
        """Hear of a newly stored event, in commit order."""
        if self._is_live:
            self._lanes.push(item, result)
        else:
            self._arrived.append(item)

    async def _run(self) -> None:
        after = 0
        while not self._is_live:
            # Whatever arrived up to here is committed, so the next read finds it.
            self._arrived.clear()
            if self._lanes.waiting >= MOST_WAITING:
                await self._clock.sleep(0.05)
                continue
            try:
                rows = await self._database.read(
                    lambda connection, start=after: _open_rows(connection, start, PAGE)
                )
            except UnavailableError:
                await self._clock.sleep(0.5)
                continue
            for row in rows:
                self._push(row)
                after = row["id"]
            if len(rows) < PAGE:
                # Everything older is in its lane; what was stored during this read follows, in the order of its
                # commits, and from here on arrivals go straight to theirs. A lane ignores what it has already.
                for item in self._arrived:
                    self._lanes.push(item)
                self._arrived.clear()
                self._is_live = True
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            with contextlib.suppress(UnavailableError):
                await self._sweep()

    async def _sweep(self) -> None:
        before_ms = self._clock.now_ms() - SWEEP_AGE_MS
        rows = await self._database.read(lambda connection: _open_rows(connection, 0, MOST_WAITING))
        for row in rows:
            if row["received_at_ms"] < before_ms and not self._lanes.knows(row["id"]):
                log.warning("backlog.taken_up_again", inbox_id=row["id"])
                self._push(row)

    def _push(self, row: Mapping[str, Any]) -> None:
        account = self._directory.account(row["account_id"])
        if account is None:
            return
        event = _event_of(self._directory.adapter(account), account, row)
        self._lanes.push(
            InboxItem(
                id=row["id"],
                account_id=row["account_id"],
                shop_id=account.shop_id,
                channel=row["channel"],
                event=event,
                lane_key=row["lane_key"],
                partition=row["partition"],
                received_at_ms=row["received_at_ms"],
                headers=orjson.loads(row["headers"]),
                body=bytes(row["body"]),
                tries=row["tries"],
            )
        )


def _event_of(adapter: ChannelAdapter, account: Account, row: Mapping[str, Any]) -> InboundEvent:
    """Parse a stored body again; the same bytes give the same events."""
    events = adapter.parse(RawDelivery(orjson.loads(row["headers"]), bytes(row["body"])))
    for event in events:
        if event.dedupe_key == row["dedupe_key"]:
            return event
    # A newer version of the adapter reads these bytes differently: whatever it says now is what we know.
    log.warning("backlog.reads_differently", inbox_id=row["id"], account_id=account.id)
    return events[0] if events else InboundEvent(kind=EventKind.IGNORED, dedupe_key=row["dedupe_key"])


def _open_rows(connection: Connection, after: int, limit: int) -> list[Mapping[str, Any]]:
    statement = (
        select(inbox).where(inbox.c.state == "open", inbox.c.id > after).order_by(inbox.c.id).limit(limit)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]
