"""Posts that may be repeated: the same Idempotency-Key gives the same answer and nothing happens again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import Header
from sqlalchemy import Connection, delete, select

from app.api.context import ApiServices
from app.desk.auth import Principal
from app.storage.database import upsert
from app.storage.tables import idempotency_keys

__all__ = ["IdempotencyKey", "once"]

KEEP_MS = 24 * 3600 * 1000

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=100, pattern=r"^[\x20-\x7e]+$",
        description="The same key again gets the same answer; nothing happens twice.",
    ),
]  # fmt: skip


async def once(
    api: ApiServices,
    principal: Principal,
    scope: str,
    key: str | None,
    action: Callable[[], Awaitable[Mapping[str, Any]]],
) -> Mapping[str, Any]:
    """Run an action unless this caller ran it under this key before; failures are not kept."""
    if key is None:
        return await action()
    full_scope = f"{scope}:{principal.name}"
    now = api.clock.now_ms()

    def find(connection: Connection) -> str | None:
        return connection.execute(
            select(idempotency_keys.c.answer).where(
                idempotency_keys.c.scope == full_scope, idempotency_keys.c.key == key
            )
        ).scalar()

    def keep(connection: Connection) -> None:
        connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at_ms < now - KEEP_MS))
        row = {
            "scope": full_scope,
            "key": key,
            "status": 201,
            "answer": json.dumps(answer),
            "created_at_ms": now,
        }
        connection.execute(upsert(connection, idempotency_keys).values(row).on_conflict_do_nothing())

    stored = await api.database.read(find)
    if stored is not None:
        return json.loads(stored)
    answer = dict(await action())
    await api.database.write(keep)
    return answer
