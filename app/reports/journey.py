"""One message's journey through Huoji, from its webhook to the confirmed reply, read back from what was stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, select

from app.core.ids import id_at
from app.core.tracing import trace_id_of
from app.domain.messages import EventKind
from app.storage.tables import (
    conversations,
    decisions,
    delivery_attempts,
    escalations,
    inbox,
    messages,
    outbox,
)

__all__ = ["BURST_AT_LEAST_MS", "Journey", "Stage", "journey_of"]

BURST_AT_LEAST_MS = 150
"""A message that was decided sooner than this did not wait for the end of a burst; it only queued."""

_CLOCK_SKEW_MS = 60_000
"""How far the clocks of two processes on one database may lie apart."""

_DONE = frozenset({"sent", "failed", "dropped"})

EntryTitle = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One thing that happened: its kind, when (milliseconds UTC), and what there is to say about it.

    Kinds, in order: ``received``, ``duplicate``, ``burst``, ``understood``, ``decided``, ``attempt`` (one each),
    ``dropped``, ``confirmed``.
    """

    kind: str
    at_ms: int
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {"kind": self.kind, "at_ms": self.at_ms, **self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """All of it. ``settled``: nothing more is expected to happen.

    The shares (milliseconds) add up to the time from the webhook to the last thing that happened: ``waiting_ms`` for
    the buyer to finish, ``processing_ms`` ours, ``sending_ms`` from the first attempt to the confirmation.
    """

    stages: tuple[Stage, ...]
    settled: bool
    waiting_ms: int = 0
    processing_ms: int = 0
    sending_ms: int = 0
    state: str = "bot"
    """Who owns the conversation now."""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {
            "stages": [stage.to_wire() for stage in self.stages],
            "settled": self.settled,
            "state": self.state,
            "shares": {
                "waiting_ms": self.waiting_ms,
                "processing_ms": self.processing_ms,
                "sending_ms": self.sending_ms,
            },
        }


def journey_of(
    connection: Connection,
    *,
    account_id: str,
    external_message_id: str,
    entry_title: EntryTitle = lambda _: None,
) -> Journey | None:
    """Return the journey of a buyer's message; None when no such message came in.

    Args:
        connection: only read from.
        account_id: the account it came in on.
        external_message_id: the platform's id of it.
        entry_title: the question of a knowledge entry by its id, None when it is gone.
    """
    received = _received(connection, account_id, external_message_id)
    if received is None:
        return None
    stages = [_received_stage(received, external_message_id)]
    if received["duplicates"]:
        detail = {"count": received["duplicates"]}
        stages.append(Stage(kind="duplicate", at_ms=received["received_at_ms"], detail=detail))
    message = _row(connection, messages, received["message_id"])
    decision = None if message is None else _row(connection, decisions, message["decision_id"])
    if message is None or decision is None:
        waits = received["state"] == "open"
        return Journey(stages=tuple(stages), settled=not waits)
    detail = orjson.loads(decision["detail"])
    waited_ms = max(0, decision["decided_at_ms"] - received["received_at_ms"])
    answered = _answered(connection, detail)
    is_burst = waited_ms >= BURST_AT_LEAST_MS or len(answered) > 1
    if is_burst:
        stages.append(_burst_stage(decision, answered))
    if detail.get("matches"):
        stages.append(_understood_stage(decision, detail, entry_title))
    conversation = _row(connection, conversations, message["conversation_id"]) or {}
    stages.append(_decided_stage(connection, decision, detail, entry_title, conversation))
    sending = _sending(connection, decision)
    stages += sending.stages
    first_ms = sending.first_ms or decision["decided_at_ms"]
    last_ms = max(stage.at_ms for stage in (*stages, *sending.ends))
    return Journey(
        stages=tuple(stages),
        settled=sending.settled,
        waiting_ms=waited_ms if is_burst else 0,
        processing_ms=max(0, first_ms - decision["decided_at_ms"]) + (0 if is_burst else waited_ms),
        sending_ms=max(0, last_ms - first_ms) if sending.first_ms is not None else 0,
        state=str(conversation.get("state", "bot")),
    )


Row = Mapping[Any, Any]


def _row(connection: Connection, table: Any, row_id: int | None) -> Row | None:
    if row_id is None:
        return None
    return connection.execute(select(table).where(table.c.id == row_id)).mappings().one_or_none()


def _received(connection: Connection, account_id: str, external_message_id: str) -> Row | None:
    # Every channel names a message's event "m:" and the platform's id; there is an index on it.
    return (
        connection.execute(
            select(
                inbox.c.id,
                inbox.c.headers,
                inbox.c.received_at_ms,
                inbox.c.done_at_ms,
                inbox.c.state,
                inbox.c.reason,
                inbox.c.duplicates,
                inbox.c.message_id,
            ).where(
                inbox.c.account_id == account_id,
                inbox.c.dedupe_key == f"m:{external_message_id}",
                inbox.c.kind == EventKind.MESSAGE.value,
            )
        )
        .mappings()
        .one_or_none()
    )


def _received_stage(received: Row, external_message_id: str) -> Stage:
    return Stage(
        kind="received",
        at_ms=received["received_at_ms"],
        detail={
            "message_id": external_message_id,
            "inbox_id": str(received["id"]),
            "trace_id": trace_id_of(orjson.loads(received["headers"]), received["id"]),
            "state": received["state"],
            "reason": received["reason"],
        },
    )


def _answered(connection: Connection, detail: Mapping[str, Any]) -> Sequence[Row]:
    ids = [int(one) for one in detail.get("answered", ())]
    if not ids:
        return ()
    return (
        connection.execute(select(messages).where(messages.c.id.in_(ids)).order_by(messages.c.seq))
        .mappings()
        .all()
    )


def _burst_stage(decision: Row, answered: Sequence[Row]) -> Stage:
    last_ms = max((row["created_at_ms"] for row in answered), default=decision["decided_at_ms"])
    return Stage(
        kind="burst",
        at_ms=decision["decided_at_ms"],
        detail={
            "texts": [_shown(orjson.loads(row["content"])) for row in answered],
            "quiet_ms": max(0, decision["decided_at_ms"] - last_ms),
        },
    )


def _shown(content: Mapping[str, Any]) -> str:
    return str(content.get("text") or f"[{content.get('type', 'other')}]")


def _understood_stage(decision: Row, detail: Mapping[str, Any], entry_title: EntryTitle) -> Stage:
    matches = [
        {
            "text": match["text"],
            "confidence": match["confidence"],
            "band": match["band"],
            "ranked": [
                {
                    "entry_id": one["entry_id"],
                    "title": entry_title(one["entry_id"]) or one["entry_id"],
                    "score": one["score"],
                    "variant": one["variant"],
                }
                for one in match["ranked"]
            ],
        }
        for match in detail["matches"]
    ]
    return Stage(
        kind="understood",
        at_ms=decision["decided_at_ms"],
        detail={"matches": matches, "micros": decision["micros"]},
    )


def _decided_stage(
    connection: Connection,
    decision: Row,
    detail: Mapping[str, Any],
    entry_title: EntryTitle,
    conversation: Row,
) -> Stage:
    applied = [
        {"entry_id": one["entry_id"], "title": entry_title(one["entry_id"]) or one["entry_id"]}
        for one in detail.get("applied", ())
    ]
    return Stage(
        kind="decided",
        at_ms=decision["decided_at_ms"],
        detail={
            "decision": decision["kind"],
            "decision_id": str(decision["id"]),
            "knowledge_version": decision["knowledge_version"],
            "rule": decision["rule"],
            "why": detail.get("why", []),
            "nodes": detail.get("nodes", []),
            "applied": applied,
            "order_id": detail.get("order_id"),
            "case": None if detail.get("case") is None else detail["case"]["kind"],
            "escalation": _escalation(connection, decision, detail, conversation),
        },
    )


def _escalation(
    connection: Connection, decision: Row, detail: Mapping[str, Any], conversation: Row
) -> dict[str, Any] | None:
    """Return why and to whom a turn was handed over, and what has become of that."""
    decided = detail.get("escalation")
    if decided is None:
        return None
    row = (
        connection.execute(
            select(escalations)
            .where(
                escalations.c.conversation_id == decision["conversation_id"],
                escalations.c.created_at_ms <= decision["decided_at_ms"],
            )
            .order_by(escalations.c.id.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return {
        "group": (row["group_id"] if row is not None else None) or decided["group"],
        "reason": decided["reason"],
        "priority": decided["priority"],
        "state": row["state"] if row is not None else None,
        "conversation_id": str(decision["conversation_id"]),
        "owner": conversation.get("state"),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    stages: list[Stage]
    ends: list[Stage]
    """When each attempt had its answer."""
    first_ms: int | None
    settled: bool


def _sending(connection: Connection, decision: Row) -> _Sending:
    stages: list[Stage] = []
    ends: list[Stage] = []
    settled = True
    replies = (
        connection.execute(
            select(messages.c.id, messages.c.status, messages.c.content, outbox.c.id.label("outbox_id"))
            .add_columns(outbox.c.state, outbox.c.error, outbox.c.next_attempt_at_ms, outbox.c.done_at_ms)
            .join(outbox, outbox.c.message_id == messages.c.id)
            .where(
                messages.c.conversation_id == decision["conversation_id"],
                messages.c.decision_id == decision["id"],
                messages.c.direction == "out",
            )
            .order_by(messages.c.id)
        )
        .mappings()
        .all()
    )
    for reply in replies:
        attempts = _attempts(connection, reply)
        stages += attempts
        ends += [Stage(kind="end", at_ms=one.at_ms + one.detail["duration_ms"]) for one in attempts]
        echo_ms = _echo_ms(connection, reply["id"], decision["decided_at_ms"])
        if reply["state"] == "dropped":
            stages.append(
                Stage(kind="dropped", at_ms=reply["done_at_ms"] or 0, detail={"error": reply["error"]})
            )
        if echo_ms is not None:
            stages.append(Stage(kind="confirmed", at_ms=echo_ms, detail={"reply_id": str(reply["id"])}))
        # A marketplace without echoes stays at "sent"; whoever waits for more has to give up by itself.
        settled = settled and reply["state"] in _DONE and (echo_ms is not None or reply["state"] != "sent")
    stages.sort(key=lambda stage: stage.at_ms)
    starts = [stage.at_ms for stage in stages if stage.kind == "attempt"]
    return _Sending(stages=stages, ends=ends, first_ms=min(starts, default=None), settled=settled)


def _attempts(connection: Connection, reply: Row) -> list[Stage]:
    rows = (
        connection.execute(
            select(delivery_attempts)
            .where(delivery_attempts.c.outbox_id == reply["outbox_id"])
            .order_by(delivery_attempts.c.number)
        )
        .mappings()
        .all()
    )
    waiting_until = reply["next_attempt_at_ms"] if reply["state"] == "open" else None
    return [
        Stage(
            kind="attempt",
            at_ms=row["started_at_ms"],
            detail={
                "number": number,
                "outcome": row["outcome"],
                "status": row["status_code"],
                "error": row["error"],
                "duration_ms": row["duration_ms"],
                "reply_id": str(reply["id"]),
                "key": f"msg_{reply['outbox_id']}",
                "next_at_ms": waiting_until if number == len(rows) else rows[number]["started_at_ms"],
            },
        )
        for number, row in enumerate(rows, 1)
    ]


def _echo_ms(connection: Connection, message_id: int, after_ms: int) -> int | None:
    # Ids begin with the time, so that this reads only what came in since and not the whole inbox.
    return connection.execute(
        select(inbox.c.received_at_ms)
        .where(
            inbox.c.id >= id_at(after_ms - _CLOCK_SKEW_MS),
            inbox.c.kind == EventKind.ECHO.value,
            inbox.c.message_id == message_id,
            inbox.c.state == "done",
        )
        .order_by(inbox.c.id)
        .limit(1)
    ).scalar()
