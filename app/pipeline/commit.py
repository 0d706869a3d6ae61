"""The one transaction of a turn: messages, decision, outbox, escalation, console events, inbox rows done.

Applied in bulk by the batch writer: the turns of many conversations share each statement. A turn is refused as a whole
(nothing of it written) when its partition has another owner (``FencedError``) or when the conversation changed hands
after the turn was decided (``StaleTurnError``); its lane then looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from app.core.errors import ConflictError
from app.core.values import value
from app.delivery.outbox import OutboxItem
from app.desk.events import append_events
from app.pipeline.partitions import FencedError, current_epochs
from app.storage.hot import HotInsert, HotQuery, HotUpdate
from app.storage.tables import (
    buyers,
    conversations,
    decisions,
    escalations,
    inbox,
    messages,
    outbox,
)

__all__ = ["FINISH_EVENTS", "AlreadyDoneError", "CommitTurns", "InboxDone", "StaleTurnError", "TurnCommit"]

Row = dict[str, Any]


class StaleTurnError(ConflictError):
    """The conversation changed hands after the turn was decided; nothing of it was written."""

    default_code = "stale_turn"


class AlreadyDoneError(ConflictError):
    """An earlier commit of this turn, whose answer was lost, is in the database; nothing of this one was written."""

    default_code = "already_done"


@value(frozen=True, slots=True)
class InboxDone:
    """An inbox row that this commit finishes: done, or parked with a reason."""

    id: int
    state: str
    reason: str | None
    message_id: int | None


@dataclass(slots=True, kw_only=True)
class TurnCommit:
    """Everything one turn writes. ``seq`` of the messages is given when it is applied, in their order.

    ``expected_version`` is the conversation's version that the turn was decided on; None for a new conversation, whose
    row is in ``conversation`` whole. ``also`` are rare extra writes in the same transaction. ``is_repeated``: the turn
    may have been committed before, since the answer to that commit never came.
    """

    partition: int
    epoch: int
    conversation_id: int
    expected_version: int | None
    conversation: Row
    now_ms: int
    inbox_done: list[InboxDone] = field(default_factory=list[InboxDone])
    buyer: Row | None = None
    messages: list[Row] = field(default_factory=list[Row])
    unread: int = 0
    decision: Row | None = None
    outbox: list[OutboxItem] = field(default_factory=list[OutboxItem])
    escalation: Row | None = None
    events: list[Row] = field(default_factory=list[Row])
    also: list[Callable[[Connection], None]] = field(default_factory=list[Callable[[Connection], None]])
    is_repeated: bool = False


_CONVERSATION_COLUMNS = (
    "state", "stage", "version", "group_id", "agent_id", "priority", "memory", "last_seq", "last_message_at_ms",
    "waiting_since_ms", "unread", "updated_at_ms", "buyer_nickname", "buyer_tier",
)  # fmt: skip
_INSERT_CONVERSATION = HotInsert(
    conversations,
    (
        *_CONVERSATION_COLUMNS,
        "last_message", "id", "account_id", "external_id", "shop_id", "channel", "buyer_id", "buyer_external_id",
        "partition", "bot_paused", "created_at_ms",
    ),
)  # fmt: skip
_UPDATE_CONVERSATION = HotUpdate(
    {name: conversations.c[name] for name in (*_CONVERSATION_COLUMNS, "last_message")}
    | {"id_": conversations.c.id},
    lambda given: (
        update(conversations)
        .where(conversations.c.id == given["id_"])
        .values({name: given[name] for name in _CONVERSATION_COLUMNS})
        # Without a new message the last one stays.
        .values(last_message=func.coalesce(given["last_message"], conversations.c.last_message))
    ),
)


def _keep_what_is_known(insert_buyer: Any) -> Any:
    return insert_buyer.on_conflict_do_update(
        index_elements=["account_id", "external_id"],
        set_={
            # What a platform doesn't tell this time is still known from before.
            "nickname": func.coalesce(insert_buyer.excluded.nickname, buyers.c.nickname),
            "tier": func.coalesce(insert_buyer.excluded.tier, buyers.c.tier),
            "updated_at_ms": insert_buyer.excluded.updated_at_ms,
        },
    )


_STORE_BUYER = HotInsert(
    buyers,
    ("id", "account_id", "external_id", "nickname", "tier", "created_at_ms", "updated_at_ms"),
    _keep_what_is_known,
)
_CURRENT = (
    select(conversations.c.id, conversations.c.version, conversations.c.last_seq, conversations.c.unread)
    .where(conversations.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(conversations.c.id)
)
_LOCKED = HotQuery(_CURRENT, "ids", postgresql=_CURRENT.with_for_update())
_FIRST_OPEN = (
    select(inbox.c.id).where(inbox.c.id == bindparam("id"), inbox.c.state == "open").with_for_update()
)
"""Waits for a transaction that has the row: a commit whose answer was lost may be under way still."""

_INSERT_MESSAGE = HotInsert(
    messages,
    (
        "id", "conversation_id", "seq", "session", "direction", "author", "author_id", "external_id", "content",
        "created_at_ms", "sent_at_ms", "status", "in_reply_to", "decision_id",
    ),
)  # fmt: skip
_INSERT_DECISION = HotInsert(decisions, decisions.columns.keys())
_INSERT_OUTBOX = HotInsert(
    outbox,
    (
        "id", "conversation_id", "account_id", "partition", "message_id", "author", "supersedable", "payload",
        "state", "next_attempt_at_ms", "deadline_ms", "created_at_ms",
    ),
)  # fmt: skip
_DONE_COLUMNS = ("state", "reason", "message_id", "conversation_id", "done_at_ms")
FINISH_EVENTS = HotUpdate(
    {name: inbox.c[name] for name in _DONE_COLUMNS} | {"id_": inbox.c.id},
    lambda given: (
        update(inbox).where(inbox.c.id == given["id_"]).values({name: given[name] for name in _DONE_COLUMNS})
    ),
)


class CommitTurns:
    """The bulk operation that applies turns."""

    rank = 20

    def apply(self, connection: Connection, items: Sequence[TurnCommit]) -> Sequence[Exception | None]:
        """Write every turn that still holds; return an error for each that doesn't."""
        epochs = current_epochs(connection, {item.partition for item in items})
        done = {id(item) for item in items if item.is_repeated and _is_done(connection, item)}
        known = _lock_conversations(connection, items)
        outcomes: list[Exception | None] = []
        good: list[TurnCommit] = []
        for item in items:
            error = _objection(item, epochs, known)
            if id(item) in done and not isinstance(error, FencedError):
                error = AlreadyDoneError("the turn was committed before")
            outcomes.append(error)
            if error is None:
                good.append(item)
        if good:
            _write(connection, good, known)
        return outcomes


def _lock_conversations(connection: Connection, items: Sequence[TurnCommit]) -> Mapping[int, Any]:
    wanted = [item.conversation_id for item in items if item.expected_version is not None]
    if not wanted:
        return {}
    return {row[0]: row for row in _LOCKED.rows(connection, wanted)}


def _is_done(connection: Connection, item: TurnCommit) -> bool:
    """Whether a turn's inbox rows are finished; all of them were in one commit, so the first tells for all."""
    if not item.inbox_done:
        return False
    return connection.execute(_FIRST_OPEN, {"id": item.inbox_done[0].id}).first() is None


def _objection(item: TurnCommit, epochs: Mapping[int, int], known: Mapping[int, Any]) -> Exception | None:
    if epochs.get(item.partition) != item.epoch:
        return FencedError(f"partition {item.partition} belongs to another process now")
    if item.expected_version is None:
        return None
    row = known.get(item.conversation_id)
    if row is None or row[1] != item.expected_version:
        return StaleTurnError("the conversation changed hands while the turn was decided")
    return None


def _write(connection: Connection, turns: list[TurnCommit], known: Mapping[int, Any]) -> None:
    buyer_rows: dict[int, Row] = {}
    new_conversations: list[Row] = []
    changed: list[Row] = []
    message_rows: list[Row] = []
    decision_rows: list[Row] = []
    outbox_rows: list[Row] = []
    escalation_rows: list[Row] = []
    event_rows: list[Row] = []
    done_rows: list[Row] = []
    for turn in turns:
        if turn.buyer is not None:
            buyer_rows[turn.buyer["id"]] = turn.buyer
        row = known.get(turn.conversation_id)
        seq = row[2] if row is not None else 0
        for message in turn.messages:
            seq += 1
            message["seq"] = seq
        message_rows += turn.messages
        values = turn.conversation
        values["last_seq"] = seq
        values["unread"] = turn.unread + (
            row[3] if row is not None and values["state"] in ("human", "queued") else 0
        )
        if row is None:
            new_conversations.append(values)
        else:
            values["id_"] = turn.conversation_id
            changed.append(values)
        if turn.decision is not None:
            decision_rows.append(turn.decision)
        for item in turn.outbox:
            outbox_rows.append(item.row())
        if turn.escalation is not None:
            escalation_rows.append(turn.escalation)
        event_rows += turn.events
        for done in turn.inbox_done:
            done_rows.append(
                {
                    "id_": done.id,
                    "state": done.state,
                    "reason": done.reason,
                    "message_id": done.message_id,
                    "conversation_id": turn.conversation_id,
                    "done_at_ms": turn.now_ms,
                }
            )
    for statement, rows in (
        (_STORE_BUYER, list(buyer_rows.values())),
        (_INSERT_CONVERSATION, new_conversations),
        (_UPDATE_CONVERSATION, changed),
        (_INSERT_DECISION, decision_rows),
        (_INSERT_MESSAGE, message_rows),
        (_INSERT_OUTBOX, outbox_rows),
        (FINISH_EVENTS, done_rows),
    ):
        if rows:
            statement.run(connection, rows)
    if escalation_rows:
        connection.execute(insert(escalations), escalation_rows)
    append_events(connection, event_rows)
    for turn in turns:
        for extra in turn.also:
            extra(connection)
