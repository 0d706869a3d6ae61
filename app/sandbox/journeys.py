"""A message's journey with both sides' eyes: what the marketplace saw when it posted, and what the server stored."""

from __future__ import annotations

from typing import Any

from app.reports.journey import Journey
from app.sandbox.chats import ChatMessage, Push

__all__ = ["joined_journey"]


def joined_journey(journey: Journey | None, message: ChatMessage, *, answer_at: float) -> dict[str, Any]:
    """Return the journey as the page shows it.

    Args:
        journey: the server's side; None when the message hasn't reached it.
        message: the marketplace's side.
        answer_at: the confidence (0–1) from which this shop answers by itself.
    """
    wire: dict[str, Any] = (
        {"stages": [], "settled": False, "state": "bot", "shares": None}
        if journey is None
        else journey.to_wire()
    )
    stages: list[dict[str, Any]] = wire["stages"]
    taken = [push for push in message.pushes if push.is_taken]
    for stage in stages:
        if stage["kind"] == "received" and taken:
            stage["ack_ms"] = taken[0].duration_ms
    if len(taken) > 1:
        stages = [stage for stage in stages if stage["kind"] != "duplicate"]
        stages += [{"kind": "duplicate", "count": 1, **_seen(push)} for push in taken[1:]]
    stages += [{"kind": "push_failed", **_seen(push)} for push in message.pushes if not push.is_taken]
    if message.state == "held":
        stages.append({"kind": "held", "at_ms": message.at_ms})
    stages.sort(key=lambda stage: stage["at_ms"])
    # A duplicate comes whenever the marketplace likes; it doesn't make the answer later.
    last_ms = max(
        (stage["at_ms"] + stage.get("duration_ms", 0) for stage in stages if stage["kind"] != "duplicate"),
        default=message.at_ms,
    )
    return {
        **wire,
        "stages": stages,
        "settled": (wire["settled"] or message.state == "failed") and not message.busy,
        "message_id": message.id,
        "webhook_id": message.webhook_id,
        "push_state": message.state,
        "begun_ms": message.at_ms,
        "total_ms": max(0, last_ms - message.at_ms),
        "delivered": sum(stage["kind"] == "confirmed" for stage in stages),
        "answer_at": answer_at,
    }


def _seen(push: Push) -> dict[str, Any]:
    return {"at_ms": push.at_ms, "ack_ms": push.duration_ms, "status": push.status, "error": push.error}
