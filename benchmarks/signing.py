"""Standard Webhooks signatures, as the comparison programs make and check them.

Source: Standard Webhooks specification 1.0.0, the symmetric scheme ``v1``.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable

TOLERANCE_SECONDS = 300
"""How old or new a signed timestamp may be. Source: the reference library of the specification."""


def decode_secret(secret: str) -> bytes:
    """Return the key bytes of a ``whsec_…`` secret."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def encode_secret(key: bytes) -> str:
    """Return the ``whsec_…`` form of ``key``."""
    return "whsec_" + base64.b64encode(key).decode()


def sign(key: bytes, webhook_id: bytes, timestamp: bytes, body: bytes) -> bytes:
    """Return the header value ``v1,<base64 of the HMAC>`` for one body."""
    digest = hmac.digest(key, b"%b.%b.%b" % (webhook_id, timestamp, body), "sha256")
    return b"v1," + base64.b64encode(digest)


def verify(key: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
    """Say whether the raw ASGI ``headers`` (lower-case names) carry a fresh, right signature of ``body``."""
    webhook_id = timestamp = signatures = b""
    for name, value in headers:
        if name == b"webhook-id":
            webhook_id = value
        elif name == b"webhook-timestamp":
            timestamp = value
        elif name == b"webhook-signature":
            signatures = value
    if not webhook_id or not signatures or not timestamp.isdigit():
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    mac = hmac.new(key, b"%b.%b." % (webhook_id, timestamp), hashlib.sha256)
    mac.update(body)
    expected = mac.digest()
    for token in signatures.split(b" "):
        version, _, encoded = token.partition(b",")
        if version != b"v1":
            continue
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            continue
        if hmac.compare_digest(given, expected):
            return True
    return False
