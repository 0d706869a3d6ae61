"""Slowing down whoever guesses passwords, per account and per address, whichever process they ask.

Kept in the database also where there is Redis: a wrong password costs a deliberate half second of hashing anyway, and a
Redis that restarts empty would let the guessing begin afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from app.core.errors import RateLimitedError
from app.storage.database import Database, upsert
from app.storage.tables import login_tries
from app.storage.time import SharedTime

__all__ = ["LoginLimits"]

ACCOUNT_TRIES = 5
ADDRESS_TRIES = 20
"""Wrong tries that cost nothing. An address may stand for a whole office, so it gets more."""

LONGEST_DELAY_MS = 300_000
"""Long enough to make guessing hopeless, short enough that locking somebody out on purpose gains little."""

FORGET_AFTER_MS = 3_600_000
"""Without a try for that long a key starts afresh."""

_LOCKED = (
    select(login_tries)
    .where(login_tries.c.key.in_(bindparam("keys", expanding=True)))
    .order_by(login_tries.c.key)
    .with_for_update()
)
_STORE = (
    update(login_tries)
    .where(login_tries.c.key == bindparam("key_"))
    .values(
        failures=bindparam("failures"),
        blocked_until_ms=bindparam("blocked_until_ms"),
        last_ms=bindparam("last_ms"),
    )
)


class LoginLimits:
    """Counts tries by key: the delay doubles with each wrong try beyond the free ones.

    A try counts when it begins, so that many at the same instant can't slip through together.
    """

    def __init__(self, database: Database, *, now_of: SharedTime) -> None:
        self._database = database
        self._now_of = now_of

    async def begin(self, account: str, address: str) -> None:
        """Count a try of an account from an address.

        Raises:
            RateLimitedError: one of the two must wait; ``retry_after`` says for how many seconds.
            UnavailableError: the database didn't take it; then nobody signs in.
        """
        free_tries = {_key("account", account): ACCOUNT_TRIES, _key("address", address): ADDRESS_TRIES}

        def begin(connection: Connection) -> None:
            now_ms = self._now_of(connection)
            rows = _lock(connection, sorted(free_tries), now_ms)
            wait_ms = max(row["blocked_until_ms"] for row in rows) - now_ms
            if wait_ms > 0:
                raise RateLimitedError(
                    "too many wrong passwords; wait before trying again",
                    code="login_rate_limited",
                    retry_after=wait_ms / 1000,
                )
            for row in rows:
                row["failures"] += 1
                beyond = row["failures"] - free_tries[row["key"]]
                if beyond >= 0:
                    # The exponent is bounded only so that the number stays small; the delay is by then long the longest.
                    row["blocked_until_ms"] = now_ms + min(LONGEST_DELAY_MS, 1000 * 2 ** min(beyond, 20))
            _store(connection, rows, now_ms)

        await self._database.write(begin)

    def succeeded(self, connection: Connection, account: str, address: str) -> None:
        """Take back the try, inside the transaction that begins the session: the account starts afresh."""
        now_ms = self._now_of(connection)
        account_key = _key("account", account)
        rows = _lock(connection, sorted((account_key, _key("address", address))), now_ms)
        for row in rows:
            row["failures"] = 0 if row["key"] == account_key else max(0, row["failures"] - 1)
            row["blocked_until_ms"] = 0
        _store(connection, rows, now_ms)
        connection.execute(delete(login_tries).where(login_tries.c.last_ms < now_ms - FORGET_AFTER_MS))


def _lock(connection: Connection, keys: Sequence[str], now_ms: int) -> list[dict[str, Any]]:
    """Read the rows of keys in their order, made where missing and afresh where long forgotten, and lock them."""
    connection.execute(
        upsert(connection, login_tries).on_conflict_do_nothing(index_elements=["key"]),
        [{"key": key, "failures": 0, "blocked_until_ms": 0, "last_ms": now_ms} for key in keys],
    )
    rows = [dict(row) for row in connection.execute(_LOCKED, {"keys": list(keys)}).mappings()]
    for row in rows:
        if now_ms - row["last_ms"] > FORGET_AFTER_MS:
            row |= {"failures": 0, "blocked_until_ms": 0}
    return rows


def _store(connection: Connection, rows: Sequence[dict[str, Any]], now_ms: int) -> None:
    connection.execute(
        _STORE,
        [
            {
                "key_": row["key"],
                "failures": row["failures"],
                "blocked_until_ms": row["blocked_until_ms"],
                "last_ms": now_ms,
            }
            for row in rows
        ],
    )


def _key(kind: str, name: str) -> str:
    # A digest: what people type into a login form now and then is their password.
    return hashlib.sha256(f"{kind}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
