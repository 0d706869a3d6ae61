"""What the sender asks of the pipeline, and what follows from a delivery: agents told, dead letters to a human."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, insert

from app.core.errors import ConflictError, UnavailableError
from app.core.tracing import Trail, traced
from app.delivery.marks import DeliveryMark
from app.delivery.outbox import OutboxItem
from app.desk.events import append_events, conversation_event, message_delivery_event
from app.desk.ownership import change_owner
from app.desk.packets import escalation_row
from app.desk.scope import read_conversation
from app.desk.work import Desk, Work
from app.domain.conversations import ConversationState, Priority
from app.domain.messages import Author
from app.domain.shops import ShopPolicy
from app.domain.turns import Escalation
from app.pipeline.lanes import Lanes
from app.pipeline.shared_leases import ALONE_SECONDS
from app.pipeline.superseded import SupersededLook
from app.storage.tables import escalations

__all__ = ["DeliveryOutcomes"]

log = structlog.get_logger(__name__)
trail = Trail(__name__)

FRESH_MS = round(ALONE_SECONDS * 1000)
"""A reply this young was stored when there was nobody else any more who could have dropped it."""


class DeliveryOutcomes:
    """The sender's hooks."""

    def __init__(
        self,
        *,
        desk: Desk,
        lanes: Lanes,
        policy_of: Callable[[str], ShopPolicy],
        on_events: Callable[[], None],
        is_shared: Callable[[], bool] = lambda: False,
    ) -> None:
        """``on_events`` is called when console events were stored.

        ``is_shared``: whether agents may be taking this process's conversations by way of others.
        """
        self._desk = desk
        self._lanes = lanes
        self._policy_of = policy_of
        self._on_events = on_events
        self._is_shared = is_shared
        self._look = SupersededLook(desk.database)
        self._changed: dict[int, bool] = {}
        """The conversations that are being asked about: whether they changed meanwhile."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def is_superseded(self, item: OutboxItem) -> bool:
        """Whether a human owns the conversation now, or did while this reply waited (it was dropped then)."""
        record = self._lanes.record_of(item.conversation_id)
        if record is not None and record.conversation.state is ConversationState.HUMAN:
            return True
        age_ms = self._desk.clock.now_ms() - item.created_at_ms
        is_at_hand = record is not None and not self._is_shared()
        if is_at_hand and item.attempts == 0 and age_ms < FRESH_MS:
            return False
        conversation_id = item.conversation_id
        try:
            while True:
                self._changed[conversation_id] = False
                if await self._look.is_superseded(item.id):
                    return True
                if self._changed.get(conversation_id) is False:
                    return False
        finally:
            self._changed.pop(conversation_id, None)

    def conversation_changed(self, conversation_id: int) -> None:
        """Hear that a conversation was changed by the desk: what is just being read of it is out of date."""
        if conversation_id in self._changed:
            self._changed[conversation_id] = True

    def delivery_event(
        self, item: OutboxItem, status: str, error: str | None, now_ms: int
    ) -> dict[str, Any] | None:
        """Return the event for whoever looks at the conversation."""
        record = self._lanes.record_of(item.conversation_id)
        if record is None:
            row: dict[str, Any] = {
                "id": item.conversation_id, "shop_id": None, "state": "bot", "group_id": None, "agent_id": None,
            }  # fmt: skip
        else:
            # Addressed to nobody in particular: whoever holds the conversation when the event is read sees it, and who
            # that is may have changed at another process.
            is_queued = record.conversation.state is ConversationState.QUEUED
            row = {
                "id": record.conversation.id,
                "shop_id": record.conversation.shop_id,
                "state": "queued" if is_queued else "bot",
                "group_id": record.conversation.group_id,
                "agent_id": None,
            }
        return message_delivery_event(
            row, message_id=item.message_id, status=status, error=error, now_ms=now_ms
        )

    def append_events(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Store events in the transaction that marks a delivery."""
        append_events(connection, rows)

    def on_marked(self, item: OutboxItem, mark: DeliveryMark) -> None:
        """Push the event; hand the conversation of a dead letter to a human."""
        if mark.event is not None:
            self._on_events()
        if mark.state == "failed" and item.author is not Author.AGENT:
            task = asyncio.get_running_loop().create_task(self._escalate(item, mark.error or "failed"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _escalate(self, item: OutboxItem, error: str) -> None:
        """A buyer who got no answer because it could not be delivered needs somebody who knows (F25)."""
        conversation_id = item.conversation_id

        def escalate(work: Work) -> None:
            row = read_conversation(work.connection, conversation_id, lock=True)
            if row["state"] != ConversationState.BOT.value:
                return
            policy = self._policy_of(row["shop_id"])
            escalation = Escalation(
                group="aftersale", rule="E7", reason="delivery_failed", priority=Priority.HIGH
            )
            work.connection.execute(
                insert(escalations),
                escalation_row(
                    escalation_id=work.ids.next(),
                    conversation_id=conversation_id,
                    shop_id=row["shop_id"],
                    escalation=escalation,
                    policy=policy,
                    now_ms=work.now_ms,
                ),
            )
            after = change_owner(
                work, row, ConversationState.QUEUED, group_id=escalation.group,
                priority=escalation.priority.value, waiting_since_ms=work.now_ms,
            )  # fmt: skip
            work.events.append(conversation_event(after, now_ms=work.now_ms))
            work.queue_changed = True
            if trail.is_followed:
                trail.note("delivery.escalated", item.trace_ids, conversation_id=conversation_id, error=error)

        try:
            await self._desk.change(escalate)
        except (ConflictError, UnavailableError) as problem:
            log.warning(
                "delivery.not_escalated",
                **traced(item.trace_ids),
                conversation_id=conversation_id,
                error=error,
                code=problem.code,
            )
