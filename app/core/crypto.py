"""Secrets at rest: sealed with a key that lives outside the database, and token hashes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.core.errors import ConfigurationError

__all__ = ["KEY_BYTES", "SecretBox", "hash_token", "parse_secret_key"]

KEY_BYTES = 32
_PREFIX = "sealed:1:"
_NONCE_BYTES = 12


def parse_secret_key(text: str) -> bytes:
    """Decode ``HUOJI_SECRET_KEY``: 32 bytes as URL-safe base64, padding optional.

    Raises:
        ConfigurationError: it is not that; the key itself is never part of the message.
    """
    try:
        key = base64.urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            "HUOJI_SECRET_KEY must be 32 bytes in URL-safe base64; make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
            code="secret_key",
        )
    return key


class SecretBox:
    """Seals and opens short texts (AES-256-GCM), each with a nonce of its own."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: str) -> str:
        """Return the sealed form, safe to store."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode(), None)
        return _PREFIX + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str) -> str:
        """Return the secret.

        Raises:
            ConfigurationError: it was sealed with another key, or was altered.
        """
        try:
            raw = base64.b64decode(sealed.removeprefix(_PREFIX))
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise ConfigurationError(
                "a stored secret can't be opened: HUOJI_SECRET_KEY is not the key it was sealed with. "
                "Put the old key back, or set the account's secrets anew with `huoji account set`",
                code="secret_key",
            ) from None

    @staticmethod
    def is_sealed(text: str) -> bool:
        """Whether a stored value is a sealed one."""
        return text.startswith(_PREFIX)


def hash_token(token: str) -> str:
    """Return what is stored of a random token: 32 random bytes need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()
