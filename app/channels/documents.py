"""Reading JSON that anybody may have written, without ever failing: a document, or the reason why there is none.

The fast path is orjson, for a body that orjson would write back byte for byte or that has nothing to hide. Whatever
could hide something from it (a charset, a byte order mark, broken UTF-8, escaped ASCII letters, more keys of one name
than a normal event has) takes the careful path, where every object is checked for repeated keys and every number for
its range.

Source: the bad inputs, B15 to B21 and B30.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import orjson

__all__ = ["MAX_DEPTH", "Rejection", "read_document"]

MAX_DEPTH = 64
"""Objects and lists inside each other; no marketplace comes near it."""

_MAX_NUMBER = 40
"""Characters of a number; a float's shortest exact text has at most 24."""

_CONTAINERS = frozenset({dict, list})

_CHARSETS = {
    "utf8": "utf-8-sig",
    "ascii": "utf-8-sig",
    "usascii": "utf-8-sig",
    "utf16": "utf-16",
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5",
    "iso88591": "latin-1",
    "latin1": "latin-1",
}
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)")

# Groups: a whole escaped pair (kept), half of one (replaced); any other escape is stepped over, so that an escaped
# backslash before a "u" isn't taken for one.
_ESCAPE = re.compile(
    r"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a body couldn't be read: a stable code."""

    reason: str


def read_document(
    body: bytes, content_type: str, *, usual: Sequence[tuple[bytes, int]], guarded: frozenset[str]
) -> Any:
    """Return the parsed JSON value of a body, or a ``Rejection``. Never raises.

    Args:
        body: the raw bytes.
        content_type: the header's value, "" when missing; only its charset is looked at.
        usual: byte patterns (quoted keys) and how often a normal body holds them; more means looking closer.
        guarded: keys that must not be repeated within one object.
    """
    if not body:
        return Rejection("empty_body")
    # Only UTF-8 can be read at once; anything else must be decoded first.
    if "charset" not in content_type or "utf-8" in content_type.lower():
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _read_carefully(body, content_type, guarded)
        if not _is_shallow(body, value):
            if not _may_hide(body, usual):
                return Rejection("too_deep")
        elif orjson.dumps(value) == body or not _may_hide(body, usual):
            # Written exactly as we would write it, as most senders do: a repeated key, a disguised one or a number
            # out of range would have left a trace. That is told faster than by counting, and of any kind of event.
            return value
    return _read_carefully(body, content_type, guarded)


def _may_hide(body: bytes, usual: Sequence[tuple[bytes, int]]) -> bool:
    """Whether repeated keys might stand in a body, plainly or in disguise."""
    # Every key we know is ASCII, and an ASCII letter's escape begins with \u00: without one no key can be disguised.
    if b"\\u00" in body:
        return True
    count = body.count
    for pattern, most in usual:  # noqa: SIM110 - a generator would cost more than the counting
        if count(pattern) > most:
            return True
    return False


def _is_shallow(body: bytes, value: Any) -> bool:
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return True
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in cast("Collection[Any]", node.values() if type(node) is dict else node)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return True
    return False


def _read_carefully(body: bytes, content_type: str, guarded: frozenset[str]) -> Any:
    text = _decode(body, content_type)
    if text is None:
        return Rejection("charset")
    if not text.strip():
        return Rejection("empty_body")
    try:
        value = json.loads(
            _ESCAPE.sub(_mend_escape, text),
            object_pairs_hook=_pairs_reader(guarded),
            parse_int=_read_int,
            parse_float=_read_float,
            parse_constant=_refuse_number,
            # Raw line breaks inside a text are a sender's slip, not a reason to lose a buyer's message.
            strict=False,
        )
    except RecursionError:
        return Rejection("too_deep")
    except _RefusedError as error:
        return Rejection(error.reason)
    except ValueError:
        return Rejection("decode_failed")
    return value if _is_shallow(body, value) else Rejection("too_deep")


def _decode(body: bytes, content_type: str) -> str | None:
    """Return the body's text, broken UTF-8 replaced by U+FFFD; None when it isn't in the charset it claims."""
    declared = _CHARSET.search(content_type.lower())
    name = re.sub(r"[^a-z0-9]", "", declared[1]) if declared else "utf8"
    codec = _CHARSETS.get(name)
    if codec is None:
        return None
    if codec != "utf-8-sig":
        try:
            return body.decode(codec).removeprefix("\ufeff")
        except UnicodeDecodeError:
            return None
    if b"\x00" in body:
        return None
    try:
        return body.decode(codec)
    except UnicodeDecodeError:
        text = body.decode(codec, "replace")
        return None if _looks_like_gbk(body, text) else text


def _looks_like_gbk(body: bytes, text: str) -> bool:
    """Whether hardly a character beyond ASCII survived as UTF-8 although all of them make sense as GBK."""
    broken = text.count("\ufffd")
    if broken < 4:
        return False
    sound = sum(not character.isascii() for character in text) - broken
    if broken <= 3 * sound:
        return False
    try:
        body.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def _mend_escape(match: re.Match[str]) -> str:
    return "\\ufffd" if match[2] else match[0]


class _RefusedError(ValueError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _pairs_reader(guarded: frozenset[str]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen and key in guarded:
                    raise _RefusedError("duplicate_key")
                seen.add(key)
        return result

    return read


def _read_int(text: str) -> int:
    if len(text) > _MAX_NUMBER:
        raise _RefusedError("number_out_of_range")
    value = int(text)
    # What doesn't fit 64 bits can't be stored again as JSON either.
    if not -(1 << 63) <= value < 1 << 64:
        raise _RefusedError("number_out_of_range")
    return value


def _read_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError("number_out_of_range")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise _RefusedError("number_out_of_range")
