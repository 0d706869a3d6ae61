"""Asking the database whether replies may still leave: many at once, since every reply of a busy process is asked about."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, bindparam, select

from app.core.errors import UnavailableError
from app.domain.conversations import ConversationState
from app.storage.database import Database
from app.storage.tables import conversations, outbox

__all__ = ["SupersededLook"]

AT_ONCE = 500

_STATES = (
    select(outbox.c.id, outbox.c.state, conversations.c.state)
    .join(conversations, conversations.c.id == outbox.c.conversation_id)
    .where(outbox.c.id.in_(bindparam("ids", expanding=True)))
)


class SupersededLook:
    """Reads what became of outbox rows and their conversations; whoever asks during a read shares the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def is_superseded(self, outbox_id: int) -> bool:
        """Whether a human has the conversation now, or the reply was dropped when one had.

        Raises:
            UnavailableError: the database didn't answer.
        """
        future = self._waiting.get(outbox_id)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._waiting[outbox_id] = loop.create_future()
            if self._task is None:
                self._task = loop.create_task(self._run(), name="superseded-look")
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            # Whoever else asks in this round of the event loop comes along.
            await asyncio.sleep(0)
            while self._waiting:
                batch = {one: self._waiting.pop(one) for one in list(self._waiting)[:AT_ONCE]}
                try:
                    found = await self._database.read(
                        lambda connection, ids=list(batch): _read(connection, ids)
                    )
                except UnavailableError as error:
                    for future in batch.values():
                        future.set_exception(error)
                        # Whoever asked may have gone meanwhile.
                        future.exception()
                    continue
                for outbox_id, future in batch.items():
                    future.set_result(outbox_id not in found)
        finally:
            self._task = None


def _read(connection: Connection, ids: list[int]) -> set[int]:
    """Return those that may leave."""
    return {
        row[0]
        for row in connection.execute(_STATES, {"ids": ids})
        if row[1] != "dropped" and row[2] != ConversationState.HUMAN.value
    }
