"""From a decision to one commit: messages, decision record, outbox, escalation, console events, inbox rows done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.core.ids import Ids
from app.core.tracing import Trail, traced
from app.core.values import changed
from app.desk.escalations import raise_escalation
from app.desk.events import append_events, conversation_event, message_created_event, suggestions_event
from app.desk.packets import escalation_row
from app.desk.wire import suggestion_wire
from app.desk.work import Work
from app.domain.conversations import ConversationState
from app.domain.messages import Author, Content
from app.domain.orders import OrderView
from app.domain.turns import Decision, DecisionKind, Escalation, Turn
from app.pipeline.commit import AlreadyDoneError, CommitTurns, InboxDone, TurnCommit
from app.pipeline.inbox import InboxItem
from app.pipeline.partitions import FencedError
from app.pipeline.records import ConversationRecord, load_record
from app.pipeline.writing import (
    Row,
    buyer_row,
    conversation_row,
    conversation_values,
    decision_row,
    inbound_message,
    outbound_message,
    reply_item,
)
from app.storage.database import Database

__all__ = ["TurnWriter"]

log = structlog.get_logger(__name__)
trail = Trail(__name__)


class TurnWriter:
    """Builds commits and hands them to the batch writer."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        epochs: Mapping[int, int],
        on_committed: Callable[[TurnCommit], None],
        on_found_done: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """``epochs``: under which this process owns its partitions. ``on_committed`` hears of every commit.

        ``on_found_done`` hears of a partition in which a commit turns out to have happened whose answer never came:
        what it wrote is in the database, and nobody here was told. It returns when the sender has it, so that the
        conversation's next reply comes after it.
        """
        self._database = database
        self._clock = clock
        self._ids = ids
        self._epochs = epochs
        self._on_committed = on_committed
        self._on_found_done = on_found_done
        self._unsure: set[int] = set()
        self._operation = CommitTurns()

    async def write(
        self,
        record: ConversationRecord,
        items: Sequence[InboxItem],
        turn: Turn,
        decision: Decision,
        *,
        orders: OrderView | None,
        micros: int,
        inbox_state: str = "done",
        inbox_reason: str | None = None,
    ) -> ConversationRecord:
        """Commit a decided turn; return the conversation afterwards.

        ``orders`` go into the escalation packet; ``micros`` is what understanding and deciding took.

        Raises:
            StaleTurnError, FencedError, UnavailableError: nothing was written.
        """
        now_ms = turn.now_ms
        rows = [
            inbound_message(item, record, message_id=utterance.message_id)
            for item, utterance in zip(items, turn.utterances, strict=True)
        ]
        decided = decision_row(
            self._ids, record, decision, knowledge_version=turn.snapshot.version, answered=rows, micros=micros,
            now_ms=now_ms,
        )  # fmt: skip
        for row in rows:
            row["decision_id"] = decided["id"]
        opens = decision.escalation is not None and record.conversation.state is ConversationState.BOT
        after = _after(record, items, decision, opens=opens, now_ms=now_ms)
        commit = self.new_commit(after, now_ms)
        commit.decision = decided
        commit.messages += rows
        commit.inbox_done += [
            InboxDone(item.id, inbox_state, inbox_reason, row["id"])
            for item, row in zip(items, rows, strict=True)
        ]
        self._add_replies(commit, after, items, rows, decision, decided["id"])
        if after.is_new or after.buyer_changed:
            commit.buyer = buyer_row(after, now_ms)
        self.set_conversation(commit, after)
        if after.conversation.state is not ConversationState.BOT:
            shown = conversation_row(after, commit.conversation)
            commit.unread = len(rows)
            commit.events += [message_created_event(row, shown, now_ms=now_ms) for row in commit.messages]
            if decision.escalation is not None:
                if opens:
                    self._open_escalation(commit, after, turn, decision, decision.escalation, orders)
                    commit.events.append(conversation_event(shown, now_ms=now_ms))
                else:
                    self._raise_escalation(commit, decision.escalation)
            elif decision.kind is DecisionKind.SUGGEST and decision.suggestions:
                wires = [suggestion_wire(one) for one in decision.suggestions]
                commit.events.append(suggestions_event(shown, wires, now_ms=now_ms))
        if not trail.is_followed:
            return await self.commit(commit, after)
        _note_decided(commit, items, decision)
        stored = await self.commit(commit, after)
        _note_committed(commit, items)
        return stored

    def new_commit(self, record: ConversationRecord, now_ms: int) -> TurnCommit:
        """Return an empty commit for a conversation."""
        return TurnCommit(
            partition=record.partition,
            epoch=self._epochs.get(record.partition, 0),
            conversation_id=record.conversation.id,
            expected_version=record.stored_version or None,
            conversation={},
            now_ms=now_ms,
        )

    def set_conversation(self, commit: TurnCommit, record: ConversationRecord) -> None:
        """Put the conversation's columns into a commit whose messages are complete."""
        last = commit.messages[-1] if commit.messages else None
        commit.conversation = conversation_values(record, last_message=last, now_ms=commit.now_ms)

    async def commit(self, commit: TurnCommit, record: ConversationRecord) -> ConversationRecord:
        """Store a commit; return the record, which was made for it, as it is stored now."""
        if self._unsure:
            commit.is_repeated = not self._unsure.isdisjoint(done.id for done in commit.inbox_done)
        try:
            await self._database.writer.submit(self._operation, commit)
        except FencedError:
            self._settle(commit)
            raise
        except UnavailableError:
            # The database may have taken it all the same.
            self._unsure.update(done.id for done in commit.inbox_done)
            raise
        except AlreadyDoneError:
            return await self._found_done(commit, record)
        self._settle(commit)
        self._on_committed(commit)
        record.stored_version = record.conversation.version
        record.buyer_changed = False
        return record

    async def _found_done(self, commit: TurnCommit, record: ConversationRecord) -> ConversationRecord:
        conversation = record.conversation
        stored = await self._database.read(
            lambda connection: load_record(connection, conversation.account_id, conversation.external_id)
        )
        ids = traced(commit.outbox[0].trace_ids if commit.outbox else ())
        log.info("turn.found_done", **ids, inbox_id=commit.inbox_done[0].id)
        if self._on_found_done is not None:
            # While the database can't be asked, the turn is tried again, and found done again.
            await self._on_found_done(commit.partition)
        self._settle(commit)
        return stored or record

    def _settle(self, commit: TurnCommit) -> None:
        if self._unsure:
            self._unsure.difference_update(done.id for done in commit.inbox_done)

    def _add_replies(
        self,
        commit: TurnCommit,
        record: ConversationRecord,
        items: Sequence[InboxItem],
        rows: Sequence[Row],
        decision: Decision,
        decision_id: int,
    ) -> None:
        for reply in decision.replies:
            row = outbound_message(
                self._ids,
                record,
                author=Author(reply.author),
                content=Content(text=reply.text),
                now_ms=commit.now_ms,
                status="queued",
                in_reply_to=rows[-1]["id"] if rows else None,
                decision_id=decision_id,
            )
            commit.messages.append(row)
            # What comes with a hand-over (an apology, "a colleague will look") is true even when the colleague
            # was quicker than the marketplace; an answer is not wanted any more.
            commit.outbox.append(
                reply_item(
                    self._ids,
                    record,
                    reply,
                    message_id=row["id"],
                    now_ms=commit.now_ms,
                    answered=items,
                    supersedable=decision.escalation is None,
                )
            )

    def _open_escalation(
        self,
        commit: TurnCommit,
        record: ConversationRecord,
        turn: Turn,
        decision: Decision,
        escalation: Escalation,
        orders: OrderView | None,
    ) -> None:
        order, others = _orders_shown(orders, decision.order_id)
        commit.escalation = escalation_row(
            escalation_id=self._ids.next(),
            conversation_id=commit.conversation_id,
            shop_id=record.conversation.shop_id,
            escalation=escalation,
            policy=turn.shop,
            now_ms=commit.now_ms,
            waiting_since_ms=record.waiting_since_ms,
            order=order,
            orders=others,
            suggestions=decision.suggestions,
        )

    def _raise_escalation(self, commit: TurnCommit, escalation: Escalation) -> None:
        def also(connection: Connection) -> None:
            work = Work(connection, now_ms=commit.now_ms, ids=self._ids)
            raise_escalation(
                work,
                commit.conversation_id,
                priority=escalation.priority,
                group_id=escalation.group if escalation.major else None,
                major=escalation.major,
            )
            append_events(connection, work.events)

        commit.also.append(also)


def _note_decided(commit: TurnCommit, items: Sequence[InboxItem], decision: Decision) -> None:
    row = commit.decision or {}
    trail.note(
        "turn.decided",
        [item.trace_id for item in items],
        conversation_id=commit.conversation_id,
        decision_id=row.get("id"),
        kind=decision.kind.value,
        rule=row.get("rule"),
        reason=None if decision.escalation is None else decision.escalation.reason,
        entry_id=row.get("entry_id"),
        confidence=row.get("confidence"),
        knowledge_version=row.get("knowledge_version"),
        micros=row.get("micros"),
    )


def _note_committed(commit: TurnCommit, items: Sequence[InboxItem]) -> None:
    trace_ids = [item.trace_id for item in items]
    trail.note(
        "turn.committed",
        trace_ids,
        conversation_id=commit.conversation_id,
        inbox_ids=[done.id for done in commit.inbox_done],
        outbox_ids=[item.id for item in commit.outbox],
    )
    opened = commit.escalation
    if opened is not None:
        trail.note(
            "escalation.opened",
            trace_ids,
            escalation_id=opened["id"],
            conversation_id=commit.conversation_id,
            group_id=opened["group_id"],
            reason=opened["reason"],
            priority=opened["priority"],
        )


def _orders_shown(
    view: OrderView | None, order_id: str | None
) -> tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]:
    """Return the order a human should see first, and all of the buyer's."""
    if view is None:
        return None, []
    orders = list(view.orders)
    for named in (view.attached, view.asked):
        if named is not None and all(order.order_id != named.order_id for order in orders):
            orders.insert(0, named)
    first = (
        next((order for order in orders if order.order_id == order_id), None) or view.attached or view.asked
    )
    if first is None and len(orders) == 1:
        first = orders[0]
    return (first.doc if first is not None else None), [order.doc for order in orders]


def _after(
    record: ConversationRecord, items: Sequence[InboxItem], decision: Decision, *, opens: bool, now_ms: int
) -> ConversationRecord:
    conversation = record.conversation
    changes: dict[str, Any] = {"memory": decision.memory, "stage": decision.stage}
    waiting_since_ms = record.waiting_since_ms
    if items:
        changes["last_message_at_ms"] = items[-1].received_at_ms
    escalation = decision.escalation
    if escalation is not None and conversation.state is not ConversationState.HUMAN:
        changes["group_id"] = escalation.group
        changes["priority"] = escalation.priority
    if opens:
        changes["state"] = ConversationState.QUEUED
        changes["version"] = conversation.version + 1
        waiting_since_ms = items[0].received_at_ms if items else now_ms
    return changed(record, conversation=changed(conversation, **changes), waiting_since_ms=waiting_since_ms)
