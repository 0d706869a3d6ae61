"""What came of delivery attempts, written in bulk: attempt rows, outbox states, message states, console events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text, update

from app.storage.hot import HotInsert, HotUpdate
from app.storage.leases import FencedError, current_epochs
from app.storage.tables import delivery_attempts, messages, outbox

__all__ = ["DeliveryMark", "MarkDeliveries"]


AppendEvents = Callable[[Connection, Sequence[dict[str, Any]]], None]


@dataclass(slots=True, kw_only=True)
class DeliveryMark:
    """The outcome of one attempt (or of giving up without one, when ``attempt`` is None).

    ``state``: open (to be tried again), sent, failed or dropped. ``message_status`` as table ``messages`` has it.
    ``epoch``: under which the process owns the message's partition; None where there can be no other process.
    """

    outbox_id: int
    message_id: int
    state: str
    message_status: str
    attempts: int
    next_attempt_at_ms: int
    error: str | None
    now_ms: int
    partition: int = 0
    epoch: int | None = None
    attempt: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    external_id: str | None = None


_OUTBOX_COLUMNS = ("state", "attempts", "next_attempt_at_ms", "error", "done_at_ms")
_UPDATE_OUTBOX = HotUpdate(
    {name: outbox.c[name] for name in _OUTBOX_COLUMNS} | {"id_": outbox.c.id},
    lambda given: (
        update(outbox)
        .where(outbox.c.id == given["id_"], text("outbox.state = 'open'"))
        .values({name: given[name] for name in _OUTBOX_COLUMNS})
    ),
)
_MESSAGE_COLUMNS = ("status", "error", "sent_at_ms")
_UPDATE_MESSAGE = HotUpdate(
    {name: messages.c[name] for name in _MESSAGE_COLUMNS} | {"id_": messages.c.id},
    lambda given: (
        update(messages)
        .where(messages.c.id == given["id_"], text("messages.status IN ('queued', 'unconfirmed')"))
        .values({name: given[name] for name in _MESSAGE_COLUMNS})
    ),
)
_UPDATE_EXTERNAL_ID = HotUpdate(
    {"external_id": messages.c.external_id, "id_": messages.c.id},
    lambda given: (
        update(messages).where(messages.c.id == given["id_"]).values(external_id=given["external_id"])
    ),
)
_INSERT_ATTEMPT = HotInsert(
    delivery_attempts,
    delivery_attempts.columns.keys(),
    # It is there already when the answer to its commit was lost.
    lambda insert: insert.on_conflict_do_nothing(),
)


class MarkDeliveries:
    """The bulk operation that applies marks."""

    rank = 30

    def __init__(self, append_events: AppendEvents) -> None:
        """``append_events`` stores console events in the same transaction."""
        self._append_events = append_events

    def apply(self, connection: Connection, items: Sequence[DeliveryMark]) -> Sequence[Exception | None]:
        """Write every mark whose partition is still its process's; return an error for each of the others.

        An echo that came first has confirmed the message already; that is kept.
        """
        guarded = {mark.partition for mark in items if mark.epoch is not None}
        if not guarded or connection.dialect.name == "sqlite":
            self._write(connection, items)
            return [None] * len(items)
        epochs = current_epochs(connection, guarded)
        outcomes: list[Exception | None] = []
        good: list[DeliveryMark] = []
        for mark in items:
            if mark.epoch is None or mark.epoch == epochs.get(mark.partition):
                good.append(mark)
                outcomes.append(None)
            else:
                outcomes.append(FencedError(f"partition {mark.partition} belongs to another process now"))
        if good:
            self._write(connection, good)
        return outcomes

    def _write(self, connection: Connection, items: Sequence[DeliveryMark]) -> None:
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
