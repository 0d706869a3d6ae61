"""What came of delivery attempts, written in bulk: attempt rows, outbox states, message states, console events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from app.storage.tables import console_events, delivery_attempts, messages, outbox

__all__ = ["DeliveryMark", "MarkDeliveries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryMark:
    """The outcome of one attempt (or of giving up without one, when ``attempt`` is None).

    ``state``: open (to be tried again), sent, failed or dropped. ``message_status`` as table ``messages`` has it.
    """

    outbox_id: int
    message_id: int
    state: str
    message_status: str
    attempts: int
    next_attempt_at_ms: int
    error: str | None
    now_ms: int
    attempt: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    external_id: str | None = None


_UPDATE_OUTBOX = (
    update(outbox)
    .where(outbox.c.id == bindparam("b_id"), outbox.c.state == "open")
    .values(
        state=bindparam("b_state"),
        attempts=bindparam("b_attempts"),
        next_attempt_at_ms=bindparam("b_next"),
        error=bindparam("b_error"),
        done_at_ms=bindparam("b_done"),
    )
)
_UPDATE_MESSAGE = (
    update(messages)
    .where(messages.c.id == bindparam("b_id"), messages.c.status != "confirmed", messages.c.status != "sent")
    .values(status=bindparam("b_status"), error=bindparam("b_error"), sent_at_ms=bindparam("b_sent"))
)
_UPDATE_EXTERNAL_ID = (
    update(messages).where(messages.c.id == bindparam("b_id")).values(external_id=bindparam("b_external_id"))
)


class MarkDeliveries:
    """The bulk operation that applies marks."""

    rank = 30

    def apply(self, connection: Connection, items: Sequence[DeliveryMark]) -> Sequence[None]:
        """Write every mark. An echo that came first has confirmed the message already; that is kept."""
        connection.execute(
            _UPDATE_OUTBOX,
            [
                {
                    "b_id": mark.outbox_id,
                    "b_state": mark.state,
                    "b_attempts": mark.attempts,
                    "b_next": mark.next_attempt_at_ms,
                    "b_error": mark.error,
                    "b_done": None if mark.state == "open" else mark.now_ms,
                }
                for mark in items
            ],
        )
        changed = [mark for mark in items if mark.message_status != "queued"]
        if changed:
            connection.execute(
                _UPDATE_MESSAGE,
                [
                    {
                        "b_id": mark.message_id,
                        "b_status": mark.message_status,
                        "b_error": mark.error,
                        "b_sent": mark.now_ms if mark.state == "sent" else None,
                    }
                    for mark in changed
                ],
            )
        named = [mark for mark in items if mark.external_id is not None]
        if named:
            connection.execute(
                _UPDATE_EXTERNAL_ID,
                [{"b_id": mark.message_id, "b_external_id": mark.external_id} for mark in named],
            )
        attempts = [mark.attempt for mark in items if mark.attempt is not None]
        if attempts:
            connection.execute(insert(delivery_attempts), attempts)
        events = [mark.event for mark in items if mark.event is not None]
        if events:
            connection.execute(insert(console_events), events)
        return [None] * len(items)
