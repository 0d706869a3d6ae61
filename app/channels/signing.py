"""Standard Webhooks: signing and verifying with symmetric keys (scheme ``v1``), several live keys at once.

Own code, since the reference library reads the clock itself, fixes the tolerance and gives up at the first malformed
token; it is the oracle of the tests.

Source: the Standard Webhooks specification, version 1.0.0, "Webhook metadata", "Signature scheme", "Verifying".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from app.core.errors import SignatureError

__all__ = [
    "MAX_TOKENS",
    "MIN_KEY_BYTES",
    "SECRET_PREFIX",
    "TOLERANCE_MS",
    "open_secret",
    "sign",
    "verify",
    "webhook_id",
]

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix that marks a secret, not a secret
MIN_KEY_BYTES = 24
"""Shortest key that is accepted as an account's secret. Source: the specification, "Symmetric": 24 to 64 bytes."""

TOLERANCE_MS = 300_000
"""How far a timestamp may lie from our clock, both ways; exactly this much still passes."""

MAX_TOKENS = 8
"""Signatures looked at in one header; the rest can't be told from an attack. Source: the bad inputs, B6."""

_WEBHOOK = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SVIX = ("svix-id", "svix-timestamp", "svix-signature")
_MAX_SECONDS_DIGITS = 11
# Stands in where an account has no key, so that the answer takes the same time.
_NO_KEY = bytes(32)
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_VERSION = re.compile(rb"v[0-9][0-9a-z]*,")


def open_secret(text: str) -> bytes:
    """Return the key of a secret as it is shown (``whsec_`` + base64; prefix and padding may be missing).

    Raises:
        ValueError: it is no base64 text, or empty.
    """
    encoded = text.strip().removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a secret is whsec_ followed by base64") from error
    if not key:
        raise ValueError("a secret can't be empty")
    return key


def sign(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` header: one token a key, in the keys' order. ``timestamp`` in seconds."""
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return b" ".join([_token(key, content) for key in keys]).decode("ascii")


def webhook_id(headers: Mapping[str, str]) -> str | None:
    """Return the id header of whichever header family is used; None when there is none."""
    return headers.get(_names(headers)[0])


def verify(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, now_ms: int) -> None:
    """Check the signature of a request over its raw body, and its age.

    ``headers``: names in lower case, of the family ``webhook-*`` or (Svix) ``svix-*``; when both are there the first
    alone counts. Any token may match any key.

    Raises:
        SignatureError: code ``signature_missing``, ``timestamp_invalid``, ``timestamp_outside_tolerance``,
            ``signature_version_unsupported`` or ``signature_invalid``.
    """
    id_name, timestamp_name, signature_name = _names(headers)
    identifier = headers.get(id_name)
    given = headers.get(signature_name)
    if identifier is None or not given:
        raise SignatureError(
            "the headers webhook-id, webhook-timestamp and webhook-signature are needed",
            code="signature_missing",
        )
    timestamp = headers.get(timestamp_name, "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_SECONDS_DIGITS):
        raise SignatureError(
            "webhook-timestamp is the time of this attempt in whole seconds since 1970",
            code="timestamp_invalid",
        )
    if abs(now_ms - int(timestamp) * 1000) > TOLERANCE_MS:
        raise SignatureError(
            f"webhook-timestamp is more than {TOLERANCE_MS // 1000} s off; the time here is {now_ms // 1000}",
            code="timestamp_outside_tolerance",
        )
    content = f"{identifier}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    # Bytes, since comparing texts raises for anything beyond ASCII.
    tokens = given.encode("utf-8", "surrogatepass").split(b" ", MAX_TOKENS)[:MAX_TOKENS]
    if not _matches(tokens, [_token(key, content) for key in keys or (_NO_KEY,)]) or not keys:
        if not any(token.startswith(b"v1,") for token in tokens) and any(map(_VERSION.match, tokens)):
            raise SignatureError(
                "only signatures of version v1 are known", code="signature_version_unsupported"
            )
        raise SignatureError(
            "no signature matches; sign the raw body, byte for byte", code="signature_invalid"
        )


def _names(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the header names of the family that is used."""
    if "webhook-signature" in headers or "webhook-id" in headers or "svix-signature" not in headers:
        return _WEBHOOK
    return _SVIX


def _token(key: bytes, content: bytes) -> bytes:
    begun_inner, begun_outer = _begin_hmac(key)
    inner = begun_inner.copy()
    inner.update(content)
    outer = begun_outer.copy()
    outer.update(inner.digest())
    return b"v1," + binascii.b2a_base64(outer.digest(), newline=False)


@lru_cache(maxsize=256)
def _begin_hmac(key: bytes) -> tuple[Any, Any]:
    """Return the hashes of HMAC (RFC 2104) with the padded key already taken in; they are only ever copied.

    An account's key stays the same for months, and taking it in anew costs more than hashing a message.
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))


def _matches(tokens: Sequence[bytes], expected: Sequence[bytes]) -> bool:
    found = False
    for token in tokens:
        for right in expected:
            found |= hmac.compare_digest(right, token)
    return found
