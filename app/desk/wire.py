"""Conversations, messages and order contexts as agents get them: the shapes of the contract, made from table rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from app.core.clock import rfc3339
from app.core.pii import mask_address, mask_name, mask_phone
from app.domain.turns import Suggestion

__all__ = [
    "conversation_wire",
    "dumps",
    "mask_order",
    "message_json",
    "message_wire",
    "suggestion_wire",
    "text_id",
]


def dumps(value: Any) -> str:
    """Write JSON compactly, as it is stored and pushed. Texts that aren't valid Unicode are repaired."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # A lone surrogate can reach us from a broken client; it must not cost the event.
        return orjson.dumps(_repaired(value)).decode()


def text_id(value: int | None) -> str | None:
    """Write an id as the text that leaves Huoji; None stays None."""
    return None if value is None else str(value)


def message_wire(row: Mapping[Any, Any], *, decision: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a row of table ``messages`` as a Message; ``decision`` is added where there is one."""
    wire = _message(row, orjson.loads(row["content"]))
    if decision is not None:
        wire["decision"] = dict(decision)
    return wire


def message_json(row: Mapping[Any, Any]) -> str:
    """Return a Message as JSON text: what column ``conversations.last_message`` holds."""
    # The content is JSON already; it goes in as it is, since this runs for every turn.
    return orjson.dumps(_message(row, orjson.Fragment(row["content"]))).decode()


def _message(row: Mapping[Any, Any], content: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "external_id": row["external_id"],
        "conversation_id": str(row["conversation_id"]),
        "direction": row["direction"],
        "author": row["author"],
        "author_id": text_id(row.get("author_id")),
        "content": content,
        "created_at": rfc3339(row["created_at_ms"]),
        "sent_at": rfc3339(row.get("sent_at_ms")),
        "status": row["status"],
        "error": row.get("error"),
        "in_reply_to": text_id(row.get("in_reply_to")),
    }


def conversation_wire(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of table ``conversations`` (``buyer_tags`` beside it where known) as a Conversation."""
    last = row.get("last_message")
    tags = row.get("buyer_tags")
    return {
        "id": str(row["id"]),
        "external_id": row["external_id"],
        "account_id": row["account_id"],
        "shop_id": row["shop_id"],
        "channel": row["channel"],
        "state": row["state"],
        "stage": row["stage"],
        "group_id": row["group_id"],
        "agent_id": text_id(row["agent_id"]),
        "buyer": {
            "id": str(row["buyer_id"]),
            "external_id": row["buyer_external_id"],
            "nickname": row["buyer_nickname"],
            "tier": row["buyer_tier"],
            "tags": orjson.loads(tags) if tags else [],
        },
        "waiting_since": rfc3339(row["waiting_since_ms"]),
        "unread": row["unread"],
        "priority": row["priority"],
        "last_message": orjson.loads(last) if last else None,
        "updated_at": rfc3339(row["updated_at_ms"]),
    }


def suggestion_wire(suggestion: Suggestion) -> dict[str, Any]:
    """Return a suggested answer as agents get it."""
    return {
        "entry_id": suggestion.entry_id,
        "title": suggestion.title,
        "text": suggestion.text,
        "score": round(suggestion.score, 4),
    }


def mask_order(order: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an order context with the receiver's personal data masked; masking twice changes nothing more.

    Source: the contracts page, section 5: masked until an agent asks.
    """
    if order is None:
        return None
    masked = dict(order)
    receiver = order.get("receiver")
    if isinstance(receiver, Mapping):
        known: dict[str, Any] = {str(key): value for key, value in _items(receiver)}
        for field, mask in (("name", mask_name), ("phone", mask_phone), ("address", mask_address)):
            value = known.get(field)
            if isinstance(value, str) and value and "*" not in value:
                known[field] = mask(value)
        masked["receiver"] = known
    return masked


def _items(mapping: Any) -> Sequence[tuple[Any, Any]]:
    return list(mapping.items())


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_repaired(str(key)): _repaired(item) for key, item in _items(value)}
    if isinstance(value, (list, tuple)):
        return [_repaired(item) for item in cast("Sequence[Any]", value)]
    return value
