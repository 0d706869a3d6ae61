"""Signs of life: when an agent was last known to be there."""

from __future__ import annotations

from app.desk.work import Work
from app.storage.database import upsert
from app.storage.tables import presence

__all__ = ["touch"]


def touch(work: Work, user_id: int) -> None:
    """Note that an agent has just done something, by whatever way, so that what they took doesn't leave them at once."""
    seen_at_ms = work.shared_now_ms()
    statement = upsert(work.connection, presence).values(
        agent_id=user_id, status="offline", changed_at_ms=work.now_ms, seen_at_ms=seen_at_ms
    )
    work.connection.execute(
        statement.on_conflict_do_update(index_elements=["agent_id"], set_={"seen_at_ms": seen_at_ms})
    )
