"""What every channel reads from an HTTP answer alike: when to come back, and what to tell a person."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, cast

import orjson

from app.domain.delivery import WireResponse

__all__ = ["MAX_RETRY_AFTER", "explain", "parse_retry_after"]

MAX_RETRY_AFTER = 3600.0
"""Seconds; a receiver that asks for more is asked again sooner all the same."""

_EXPLANATION = 200
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")


def parse_retry_after(response: WireResponse, *, now_ms: int) -> float | None:
    """Return the seconds of ``Retry-After`` (a number, or an HTTP date), 0 to one hour; None without a usable one.

    Source: RFC 9110, section 10.2.3.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER)
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now_ms / 1000
    except (ValueError, OverflowError, OSError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def explain(response: WireResponse) -> str:
    """Return the status and the start of what the peer said, on one line, for the person who looks into it."""
    said = _BLANK.sub(" ", _said(response.body)).strip()[:_EXPLANATION]
    return f"HTTP {response.status}: {said}" if said else f"HTTP {response.status}"


def _said(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[: 4 * _EXPLANATION].decode("utf-8", "replace")
    if isinstance(document, dict):
        fields = cast("dict[str, Any]", document)
        for name in ("detail", "message", "error", "title"):
            if isinstance(fields.get(name), str):
                return fields[name]
    return body[: 4 * _EXPLANATION].decode("utf-8", "replace")
