"""What came of delivery attempts, written in bulk: attempt rows, outbox states, message states, console events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, text, update

from app.storage.hot import HotStatement, bound_columns
from app.storage.tables import delivery_attempts, messages, outbox

__all__ = ["DeliveryMark", "MarkDeliveries"]


AppendEvents = Callable[[Connection, Sequence[dict[str, Any]]], None]


@dataclass(slots=True, kw_only=True)
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


_UPDATE_OUTBOX = HotStatement(
    update(outbox)
    .where(outbox.c.id == bindparam("id_"), text("outbox.state = 'open'"))
    .values(
        state=bindparam("state"),
        attempts=bindparam("attempts"),
        next_attempt_at_ms=bindparam("next_attempt_at_ms"),
        error=bindparam("error"),
        done_at_ms=bindparam("done_at_ms"),
    )
)
_UPDATE_MESSAGE = HotStatement(
    update(messages)
    .where(messages.c.id == bindparam("id_"), text("messages.status IN ('queued', 'unconfirmed')"))
    .values(status=bindparam("status"), error=bindparam("error"), sent_at_ms=bindparam("sent_at_ms"))
)
_UPDATE_EXTERNAL_ID = HotStatement(
    update(messages).where(messages.c.id == bindparam("id_")).values(external_id=bindparam("external_id"))
)
_INSERT_ATTEMPT = HotStatement(
    insert(delivery_attempts).values(bound_columns(*(column.name for column in delivery_attempts.columns)))
)


class MarkDeliveries:
    """The bulk operation that applies marks."""

    rank = 30

    def __init__(self, append_events: AppendEvents) -> None:
        """``append_events`` stores console events in the same transaction."""
        self._append_events = append_events

    def apply(self, connection: Connection, items: Sequence[DeliveryMark]) -> Sequence[None]:
        """Write every mark. An echo that came first has confirmed the message already; that is kept."""
        _UPDATE_OUTBOX.run(
            connection,
            [
                {
                    "id_": mark.outbox_id,
                    "state": mark.state,
                    "attempts": mark.attempts,
                    "next_attempt_at_ms": mark.next_attempt_at_ms,
                    "error": mark.error,
                    "done_at_ms": None if mark.state == "open" else mark.now_ms,
                }
                for mark in items
            ],
        )
        changed = [mark for mark in items if mark.message_status != "queued"]
        if changed:
            _UPDATE_MESSAGE.run(
                connection,
                [
                    {
                        "id_": mark.message_id,
                        "status": mark.message_status,
                        "error": mark.error,
                        "sent_at_ms": mark.now_ms if mark.state == "sent" else None,
                    }
                    for mark in changed
                ],
            )
        named = [mark for mark in items if mark.external_id is not None]
        if named:
            _UPDATE_EXTERNAL_ID.run(
                connection, [{"id_": mark.message_id, "external_id": mark.external_id} for mark in named]
            )
        attempts = [mark.attempt for mark in items if mark.attempt is not None]
        if attempts:
            _INSERT_ATTEMPT.run(connection, attempts)
        events = [mark.event for mark in items if mark.event is not None]
        if events:
            self._append_events(connection, events)
        return [None] * len(items)
