"""Bodies of the generic channel: from bytes to events, and from a message to bytes.

``read_events`` never raises: after a good signature everything is kept, what can't be understood as REJECTED or
IGNORED with a reason.

Source: the contracts page, section 2; the bad inputs, B10 to B38.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, cast

import orjson

from app.channels.documents import Rejection, read_document
from app.core.clock import from_rfc3339, rfc3339
from app.domain.delivery import OutboundMessage
from app.domain.messages import BuyerRef, Content, ContentType, EventKind, InboundEvent

__all__ = ["MAX_ID", "read_events", "write_message"]

MAX_ID = 512
"""Characters of an id; the longest marketplace id known has fewer than 100."""

_MAX_URL = 4096
_KEPT_INSTANT = 64

# How often each quoted key stands in a normal message ("text" also as the value of a content's type). An object that
# is given twice shows by the keys inside it.
_USUAL = ((b'"message_id"', 1), (b'"conversation_id"', 1), (b'"id"', 1), (b'"order_id"', 1), (b'"text"', 2))
_GUARDED = frozenset(
    {"type", "data", "message_id", "conversation_id", "buyer", "id", "order_id", "content", "text"}
)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _RejectedError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_events(body: bytes, content_type: str, webhook_id: str | None) -> tuple[InboundEvent, ...]:
    """Return the one event of a verified body; ``webhook_id`` is the header's value. Never raises."""
    if not _is_id(webhook_id):
        return (_odd(EventKind.REJECTED, "webhook_id_invalid", webhook_id, body),)
    document = read_document(body, content_type, usual=_USUAL, guarded=_GUARDED)
    if type(document) is not dict:
        reason = document.reason if isinstance(document, Rejection) else "not_an_object"
        return (_odd(EventKind.REJECTED, reason, webhook_id, body),)
    fields = cast("dict[str, Any]", document)
    kind = fields.get("type")
    if type(kind) is not str or not kind:
        return (_odd(EventKind.REJECTED, "type_missing", webhook_id, body),)
    if kind.startswith("message.send"):
        return (_odd(EventKind.IGNORED, "own_message", webhook_id, body, kind),)
    reader = _READERS.get(kind)
    if reader is None:
        return (_odd(EventKind.IGNORED, "ignored_type", webhook_id, body, kind),)
    data = fields.get("data")
    if type(data) is not dict:
        return (_odd(EventKind.REJECTED, "data_missing", webhook_id, body, kind),)
    try:
        return (reader(cast("dict[str, Any]", data), f"w:{webhook_id}"),)
    except _RejectedError as error:
        return (_odd(EventKind.REJECTED, error.reason, webhook_id, body, kind),)


def write_message(message: OutboundMessage) -> bytes:
    """Return the body of a ``message.send``: the same bytes at every attempt."""
    document = {
        "type": "message.send",
        "timestamp": rfc3339(message.created_at_ms),
        "data": {
            "message_id": message.message_id,
            "conversation_id": message.conversation_external_id,
            "in_reply_to": message.in_reply_to,
            "answers": message.answers,
            "author": message.author.value,
            "content": message.content.to_wire(),
        },
    }
    try:
        return orjson.dumps(document)
    except TypeError:
        # Half a surrogate pair (typed by an agent's broken keyboard) has no bytes; send the rest.
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def _odd(
    kind: EventKind, reason: str, webhook_id: str | None, body: bytes, event_type: str | None = None
) -> InboundEvent:
    if _is_id(webhook_id):
        key = f"w:{webhook_id}"
    else:
        key = f"x:{hashlib.sha256((webhook_id or '').encode('utf-8', 'replace') + body).hexdigest()}"
    payload = {} if event_type is None else {"type": event_type[:MAX_ID]}
    return InboundEvent(kind=kind, dedupe_key=key, reason=reason, payload=payload)


def _read_message(data: dict[str, Any], _key: str) -> InboundEvent:
    message_id = _required_id(data, "message_id")
    return InboundEvent(
        kind=EventKind.MESSAGE,
        dedupe_key=f"m:{message_id}",
        conversation_id=_required_id(data, "conversation_id"),
        buyer=_read_buyer(data),
        message_id=message_id,
        content=_read_content(data.get("content")),
        order_id=_optional_id(data.get("order_id")),
        product_id=_optional_id(data.get("product_id")),
        sent_at_ms=_instant(data.get("sent_at")),
    )


def _read_echo(data: dict[str, Any], key: str) -> InboundEvent:
    return InboundEvent(
        kind=EventKind.ECHO,
        dedupe_key=key,
        conversation_id=_required_id(data, "conversation_id"),
        buyer=_read_buyer(data) if "buyer" in data else None,
        message_id=_required_id(data, "message_id"),
        content=_read_content(data.get("content")),
        sent_at_ms=_instant(data.get("sent_at")),
    )


def _read_order(data: dict[str, Any], key: str) -> InboundEvent:
    order = _object(data, "order")
    return InboundEvent(
        kind=EventKind.ORDER,
        dedupe_key=key,
        conversation_id=_conversation(data),
        buyer=_read_buyer(data),
        order_id=_required_id(order, "order_id"),
        payload=data,
    )


def _read_refund(data: dict[str, Any], key: str) -> InboundEvent:
    _object(data, "refund")
    return InboundEvent(
        kind=EventKind.REFUND,
        dedupe_key=key,
        conversation_id=_conversation(data),
        buyer=_read_buyer(data),
        order_id=_required_id(data, "order_id"),
        payload=data,
    )


def _read_review(data: dict[str, Any], key: str) -> InboundEvent:
    if type(data.get("rating")) not in (int, float):
        raise _RejectedError("rating_missing" if data.get("rating") is None else "rating_invalid")
    return InboundEvent(
        kind=EventKind.REVIEW,
        dedupe_key=key,
        conversation_id=_conversation(data),
        buyer=_read_buyer(data),
        content=Content(text=_clean(data.get("text"))),
        order_id=_required_id(data, "order_id"),
        sent_at_ms=_instant(data.get("created_at")),
        payload=data,
    )


def _read_closed(data: dict[str, Any], key: str) -> InboundEvent:
    return InboundEvent(
        kind=EventKind.CLOSED,
        dedupe_key=key,
        conversation_id=_required_id(data, "conversation_id"),
    )


_READERS: Mapping[str, Callable[[dict[str, Any], str], InboundEvent]] = MappingProxyType(
    {
        "message.created": _read_message,
        "message.echo": _read_echo,
        "order.updated": _read_order,
        "refund.updated": _read_refund,
        "review.created": _read_review,
        "conversation.closed": _read_closed,
    }
)


def _read_buyer(data: dict[str, Any]) -> BuyerRef:
    buyer = _object(data, "buyer")
    identifier = buyer.get("id")
    if type(identifier) is not str or not _is_id(identifier):
        if identifier is None:
            raise _RejectedError("buyer.id_missing")
        identifier = _as_id(identifier, "buyer.id")
    return BuyerRef(
        id=identifier,
        nickname=_label(buyer.get("nickname")),
        tier=_label(buyer.get("tier")),
    )


def _read_content(value: Any) -> Content:
    if value is None:
        raise _RejectedError("content_missing")
    if type(value) is not dict:
        raise _RejectedError("content_invalid")
    fields = cast("dict[str, Any]", value)
    kind = fields.get("type")
    if kind == "text":
        text = fields.get("text")
        if type(text) is str:
            return Content(text=text if "\x00" not in text else text.replace("\x00", ""))
        if text is None or type(text) in (int, float):
            return Content(text="" if text is None else str(text))
    elif type(kind) is str and kind in _MEDIA:
        return _read_media(_MEDIA[kind], fields)
    return Content(type=ContentType.OTHER, text=_clean(fields.get("text")), raw=fields.get("raw", fields))


_MEDIA: Mapping[str, ContentType] = MappingProxyType(
    {kind.value: kind for kind in ContentType if kind not in (ContentType.TEXT, ContentType.OTHER)}
)


def _read_media(kind: ContentType, fields: dict[str, Any]) -> Content:
    url = _link(fields.get("url"))
    seconds: Any = fields.get("seconds")
    refused = url is None and fields.get("url") is not None
    return Content(
        type=kind,
        text=_clean(fields.get("text")),
        url=url,
        seconds=int(seconds) if isinstance(seconds, (int, float)) and 0 <= seconds < 1 << 31 else None,
        order_id=_optional_id(fields.get("order_id")),
        product_id=_optional_id(fields.get("product_id")),
        # A link that can't be shown is kept for whoever looks into it.
        raw=fields if refused else None,
    )


def _link(value: Any) -> str | None:
    """Return a link that may be shown: http(s) only, so that no script and no file can hide in it."""
    if (
        type(value) is not str
        or len(value) > _MAX_URL
        or not value.lower().startswith(("https://", "http://"))
    ):
        return None
    return None if _CONTROL.search(value) else value


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    if type(value) is dict:
        return cast("dict[str, Any]", value)
    raise _RejectedError(f"{name}_missing" if value is None else f"{name}_invalid")


def _conversation(data: dict[str, Any]) -> str | None:
    return None if data.get("conversation_id") is None else _required_id(data, "conversation_id")


def _required_id(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if type(value) is str and _is_id(value):
        return value
    if value is None:
        raise _RejectedError(f"{name}_missing")
    return _as_id(value, name)


def _as_id(value: Any, name: str) -> str:
    """Return an id as text; some senders write numbers."""
    if type(value) is int:
        return str(value)
    if type(value) is str and _is_id(value):
        return value
    raise _RejectedError(f"{name}_invalid")


def _optional_id(value: Any) -> str | None:
    """Return an id that the event could do without; an unusable one counts as none."""
    if type(value) is str:
        return value if _is_id(value) else None
    return str(value) if type(value) is int else None


def _is_id(value: str | None) -> bool:
    if not value or len(value) > MAX_ID:
        return False
    if value.isascii() and value.isprintable():
        return not value.isspace()
    return not (value.isspace() or _CONTROL.search(value))


def _label(value: Any) -> str | None:
    if type(value) is not str:
        return None
    return (value if "\x00" not in value else _clean(value))[:MAX_ID] or None


def _clean(value: Any) -> str:
    """Return a text without NUL, which PostgreSQL can't store; anything but text is none."""
    return value.replace("\x00", "") if type(value) is str else ""


def _instant(value: Any) -> int | None:
    """Return an instant in milliseconds; a wrong one counts as unknown, since it is only ever shown."""
    if type(value) is not str:
        return None
    try:
        return _read_instant(value) if len(value) <= _KEPT_INSTANT else from_rfc3339(value)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def _read_instant(text: str) -> int:
    # Many messages of one busy second say the same.
    return from_rfc3339(text)
