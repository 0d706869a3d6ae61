"""Rows of a turn: from a record, its messages and a decision to what ``TurnCommit`` writes. Pure but for ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.ids import Ids
from app.delivery.outbox import OutboxItem, new_item
from app.desk.wire import dumps, message_json
from app.domain.matching import Match
from app.domain.messages import Author, Content, ContentType, Direction
from app.domain.turns import Decision, Reply
from app.pipeline.inbox import InboxItem
from app.pipeline.records import ConversationRecord, memory_to_json

__all__ = [
    "buyer_key",
    "buyer_row",
    "conversation_row",
    "conversation_values",
    "decision_row",
    "inbound_message",
    "outbound_message",
    "reply_item",
]

Row = dict[str, Any]

# Read once: an enum's ``value`` costs a function call each time.
_IN, _OUT, _BUYER = Direction.IN.value, Direction.OUT.value, Author.BUYER.value


def buyer_key(account_id: str, external_id: str) -> int:
    """Return our id of a buyer: a digest of the platform's key, so that it needs no look-up."""
    digest = hashlib.blake2b(
        f"{account_id}\0{external_id}".encode(errors="surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest) >> 1


def buyer_row(record: ConversationRecord, now_ms: int) -> Row:
    """Return the buyer as this conversation knows them."""
    conversation = record.conversation
    return {
        "id": record.buyer_id,
        "account_id": conversation.account_id,
        "external_id": conversation.buyer_external_id,
        "nickname": conversation.buyer_nickname,
        "tier": conversation.buyer_tier,
        "created_at_ms": now_ms,
        "updated_at_ms": now_ms,
    }


def inbound_message(item: InboxItem, record: ConversationRecord, *, message_id: int) -> Row:
    """Return the row of a buyer's message."""
    event = item.event
    content = event.content or Content()
    return {
        "id": message_id,
        "conversation_id": record.conversation.id,
        "session": record.memory.session,
        "direction": _IN,
        "author": _BUYER,
        "author_id": None,
        "external_id": event.message_id,
        "content": dumps(content.to_wire()),
        "created_at_ms": item.received_at_ms,
        "sent_at_ms": event.sent_at_ms,
        "status": "received",
        "in_reply_to": None,
        "decision_id": None,
    }


def outbound_message(
    ids: Ids,
    record: ConversationRecord,
    *,
    author: Author,
    content: Content,
    now_ms: int,
    status: str,
    in_reply_to: int | None = None,
    decision_id: int | None = None,
    external_id: str | None = None,
    sent_at_ms: int | None = None,
) -> Row:
    """Return the row of a message that leaves, or that left by another way (an echo)."""
    return {
        "id": ids.next(),
        "conversation_id": record.conversation.id,
        "session": record.memory.session,
        "direction": _OUT,
        "author": str(author),
        "author_id": None,
        "external_id": external_id,
        "content": dumps(content.to_wire()),
        "created_at_ms": now_ms,
        "sent_at_ms": sent_at_ms,
        "status": status,
        "in_reply_to": in_reply_to,
        "decision_id": decision_id,
    }


def reply_item(
    ids: Ids,
    record: ConversationRecord,
    reply: Reply,
    *,
    message_id: int,
    now_ms: int,
    answered: Sequence[InboxItem],
    supersedable: bool,
) -> OutboxItem:
    """Return the outbox item of a decision's reply; ``answered`` are the messages it answers, oldest first."""
    names = tuple(item.event.message_id for item in answered if item.event.message_id is not None)
    return new_item(
        ids=ids,
        conversation_id=record.conversation.id,
        conversation_external_id=record.conversation.external_id,
        account_id=record.conversation.account_id,
        partition=record.partition,
        message_id=message_id,
        author=Author(reply.author),
        content=Content(type=ContentType.TEXT, text=reply.text),
        now_ms=now_ms,
        in_reply_to=names[-1] if names else None,
        answers=names or None,
        supersedable=supersedable,
        received_at_ms=answered[0].received_at_ms if answered else None,
        trace_ids=tuple([item.trace_id for item in answered]),
    )


def conversation_values(
    record: ConversationRecord, *, last_message: Mapping[str, Any] | None, now_ms: int
) -> Row:
    """Return what a turn writes of its conversation: every column for a new one, else those that move.

    Without a new message the last one stays.
    """
    conversation = record.conversation
    values: Row = {
        "id": conversation.id,
        "state": str(conversation.state),
        "stage": conversation.stage,
        "version": conversation.version,
        "group_id": conversation.group_id,
        "agent_id": conversation.agent_id,
        "priority": str(conversation.priority),
        "memory": memory_to_json(conversation.memory),
        "last_message": None if last_message is None else message_json(last_message),
        "last_message_at_ms": conversation.last_message_at_ms,
        "waiting_since_ms": record.waiting_since_ms,
        "updated_at_ms": now_ms,
        "buyer_nickname": conversation.buyer_nickname,
        "buyer_tier": conversation.buyer_tier,
    }
    if record.is_new:
        values.update(
            account_id=conversation.account_id,
            external_id=conversation.external_id,
            shop_id=conversation.shop_id,
            channel=conversation.channel,
            buyer_id=record.buyer_id,
            buyer_external_id=conversation.buyer_external_id,
            partition=record.partition,
            bot_paused=conversation.bot_paused,
            created_at_ms=record.created_at_ms,
        )
    return values


def conversation_row(record: ConversationRecord, values: Row) -> Row:
    """Return the whole row of a conversation as it will be after a commit that writes ``values``."""
    conversation = record.conversation
    return {
        **values,
        "account_id": conversation.account_id,
        "external_id": conversation.external_id,
        "shop_id": conversation.shop_id,
        "channel": conversation.channel,
        "buyer_id": record.buyer_id,
        "buyer_external_id": conversation.buyer_external_id,
        "partition": record.partition,
        "unread": 0,
    }


def _match_wire(match: Match) -> Row:
    return {
        "text": match.text,
        "confidence": round(match.confidence, 4),
        "band": str(match.band),
        "ranked": [
            {"entry_id": one.entry_id, "score": round(one.score, 4), "variant": one.variant}
            for one in match.ranked
        ],
    }


def decision_row(
    ids: Ids,
    record: ConversationRecord,
    decision: Decision,
    *,
    knowledge_version: int,
    answered: Sequence[Mapping[str, Any]],
    micros: int,
    now_ms: int,
) -> Row:
    """Return the record of a decision, from which any answer can be explained afterwards."""
    best = decision.matches[0] if decision.matches else None
    detail: Row = {
        "matches": [_match_wire(match) for match in decision.matches],
        "applied": [
            {"entry_id": one.entry_id, "topic": one.topic, "confidence": one.confidence}
            for one in decision.applied
        ],
        "why": decision.why,
        "log": decision.log_codes,
        "nodes": [reply.node for reply in decision.replies],
        "order_id": decision.order_id,
        "answered": [str(message["id"]) for message in answered],
    }
    if decision.escalation is not None:
        detail["escalation"] = {
            "group": decision.escalation.group,
            "reason": decision.escalation.reason,
            "priority": decision.escalation.priority.value,
            "major": decision.escalation.major,
        }
    if decision.case is not None:
        detail["case"] = {"kind": decision.case.kind, "fields": dict(decision.case.fields)}
    if decision.suggestions:
        detail["suggestions"] = [
            {"entry_id": one.entry_id, "title": one.title, "text": one.text, "score": one.score}
            for one in decision.suggestions
        ]
    return {
        "id": ids.next(),
        "conversation_id": record.conversation.id,
        "kind": str(decision.kind),
        "knowledge_version": knowledge_version,
        "entry_id": decision.applied[0].entry_id
        if decision.applied
        else (best.ranked[0].entry_id if best and best.ranked else None),
        "confidence": best.confidence if best is not None else None,
        "band": str(best.band) if best is not None else None,
        "rule": decision.escalation.rule if decision.escalation is not None else None,
        "detail": dumps(detail),
        "micros": micros,
        "decided_at_ms": now_ms,
    }
