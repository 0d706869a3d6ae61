"""The append-only record of who did what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert

from app.core.ids import Ids
from app.storage.tables import audit

__all__ = ["record"]


def record(
    connection: Connection,
    *,
    ids: Ids,
    actor: str,
    action: str,
    subject: str,
    at_ms: int,
    detail: Mapping[str, Any],
) -> None:
    """Append one line inside the caller's transaction. ``detail`` holds no secret and no personal data."""
    connection.execute(
        insert(audit),
        {
            "id": ids.next(),
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": json.dumps(detail, ensure_ascii=False, default=str),
            "at_ms": at_ms,
        },
    )
