"""Passwords: argon2id, hashed in a thread so that the event loop goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from app.core.errors import FieldProblem, InvalidError

__all__ = ["MAX_PASSWORD_BYTES", "Argon2Cost", "Passwords"]

MAX_PASSWORD_BYTES = 1024
"""Longer passwords are refused before any work is spent on them (bad input B44 of the reliability notes)."""

MIN_PASSWORD_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Cost:
    """What one hash costs: passes, KiB of memory, lanes. Source: RFC 9106, section 4, the second recommended option."""

    passes: int = 3
    memory_kib: int = 65_536
    lanes: int = 1


class Passwords:
    """Hashes and checks passwords, at most two at a time so that a login storm can't take all memory."""

    def __init__(self, cost: Argon2Cost | None = None) -> None:
        """Take the cost; tests give a small one."""
        chosen = cost or Argon2Cost()
        self._hasher = argon2.PasswordHasher(
            time_cost=chosen.passes, memory_cost=chosen.memory_kib, parallelism=chosen.lanes
        )
        self._gate = asyncio.Semaphore(2)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of a password, as the text that is stored.

        Raises:
            InvalidError: it is shorter than 8 characters or longer than 1,024 bytes.
        """
        if len(password) < MIN_PASSWORD_CHARACTERS:
            fix = f"use {MIN_PASSWORD_CHARACTERS} characters or more"
            raise InvalidError(
                f"the password is too short; {fix}",
                code="password_too_short",
                errors=[FieldProblem("password", "too short", fix)],
            )
        check_password_length(password)
        async with self._gate:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is the stored one; ``stored`` None (no such person) takes as long and is False.

        Raises:
            InvalidError: the password is longer than 1,024 bytes.
        """
        check_password_length(password)
        async with self._gate:
            return await asyncio.to_thread(self._verify, stored, password)

    def _verify(self, stored: str | None, password: str) -> bool:
        if stored is None:
            # An unknown name must cost what a known one costs, or names could be found out by the clock.
            if self._decoy is None:
                self._decoy = self._hasher.hash("nobody has this password")
            self._matches(self._decoy, password)
            return False
        return self._matches(stored, password)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def check_password_length(password: str) -> None:
    """Refuse a password that is longer than 1,024 bytes. Raises InvalidError."""
    # A character takes at least one byte, so a huge text is refused without encoding it.
    if (
        len(password) > MAX_PASSWORD_BYTES
        or len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES
    ):
        fix = f"use at most {MAX_PASSWORD_BYTES} bytes"
        raise InvalidError(
            f"the password is too long; {fix}",
            code="password_too_long",
            errors=[FieldProblem("password", "too long", fix)],
        )
