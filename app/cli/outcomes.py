"""What became of simulated messages, read from the server's database (nothing is written)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVarTuple

import orjson
from sqlalchemy import Connection, Select, select

from app.core.ids import id_at
from app.storage.database import Database
from app.storage.tables import conversations, decisions, inbox, messages

Columns = TypeVarTuple("Columns")

__all__ = ["OUTCOMES", "Outcome", "OutcomeReader", "summarise"]

OUTCOMES = {
    "answer": "answered",
    "ask": "asked_back",
    "escalate": "escalated",
    "suggest": "suggested",
    "silent": "silent",
}
"""A decision's kind to what it is counted as."""

_LOOK_BACK_MS = 30_000
"""Ids are made before their commit, so that one may show up behind those already seen. ``finish`` reads everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one message."""

    text: str
    message_id: str
    conversation_id: str
    outcome: str
    kind: str | None = None
    entry: str | None = None
    confidence: float | None = None
    band: str | None = None
    rule: str | None = None
    group: str | None = None
    why: tuple[str, ...] = ()
    ranked: tuple[tuple[str, float], ...] = ()
    replies: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """Return the line of ``--out``."""
        return {
            "text": self.text,
            "outcome": self.outcome,
            "decision": self.kind,
            "entry": self.entry,
            "confidence": self.confidence,
            "band": self.band,
            "rule": self.rule,
            "group": self.group,
            "why": list(self.why),
            "ranked": [[entry, score] for entry, score in self.ranked],
            "reply": "\n".join(self.replies) or None,
            "message_id": self.message_id,
            "conversation_id": self.conversation_id,
        }


class OutcomeReader:
    """Follows one run's messages to their decisions."""

    def __init__(self, database: Database, *, account_id: str, run: str, since_ms: int) -> None:
        """``run``: what the ids of its messages and conversations begin with; ``since_ms``: when it began."""
        self._database = database
        self._account_id = account_id
        self._run = run
        self._since_ms = since_ms
        self._decided: dict[str, Mapping[str, Any]] = {}
        self._parked: dict[str, str] = {}

    @property
    def settled(self) -> int:
        """How many messages are decided, or put aside."""
        return len(self._decided) + len(self._parked)

    async def poll(self, now_ms: int) -> int:
        """Read what was decided since the last time; return how many messages are settled."""
        floor = id_at(max(self._since_ms, now_ms - _LOOK_BACK_MS))
        await self._database.read(lambda connection: self._read(connection, floor))
        return self.settled

    async def finish(self, texts: Mapping[str, tuple[str, str]], acked: Iterable[str]) -> list[Outcome]:
        """Return every message's outcome, in the order of ``texts`` (message id → conversation id and text)."""
        await self._database.read(lambda connection: self._read(connection, id_at(self._since_ms)))
        replies = await self._database.read(self._replies)
        stored = await self._database.read(self._states)
        accepted = set(acked)
        return [
            self._outcome(
                message_id, conversation_id, text, stored.get(message_id), message_id in accepted, replies
            )
            for message_id, (conversation_id, text) in texts.items()
        ]

    def _outcome(
        self,
        message_id: str,
        conversation_id: str,
        text: str,
        state: str | None,
        is_acked: bool,
        replies: Mapping[int, tuple[str, ...]],
    ) -> Outcome:
        decision = self._decided.get(message_id)
        if decision is None:
            outcome = self._parked.get(message_id) or _undecided(state, is_acked=is_acked)
            return Outcome(text=text, message_id=message_id, conversation_id=conversation_id, outcome=outcome)
        detail = orjson.loads(decision["detail"])
        matches: list[dict[str, Any]] = detail["matches"]
        own = [match for match in matches if match["text"] == text] or matches[:1]
        return Outcome(
            text=text,
            message_id=message_id,
            conversation_id=conversation_id,
            outcome=OUTCOMES[decision["kind"]],
            kind=decision["kind"],
            entry=decision["entry_id"],
            confidence=decision["confidence"],
            band=decision["band"],
            rule=decision["rule"],
            group=detail.get("escalation", {}).get("group"),
            why=tuple(detail.get("why", ())),
            ranked=tuple((one["entry_id"], one["score"]) for match in own[:1] for one in match["ranked"]),
            replies=replies.get(decision["id"], ()),
        )

    def _of_run(self, rows: Select[*Columns]) -> Select[*Columns]:
        return rows.where(
            conversations.c.account_id == self._account_id,
            conversations.c.external_id.startswith(f"{self._run}-c", autoescape=True),
        )

    def _read(self, connection: Connection, floor: int) -> None:
        decided = self._of_run(
            select(decisions).join(conversations, conversations.c.id == decisions.c.conversation_id)
        ).where(decisions.c.id >= floor)
        found = [dict(row) for row in connection.execute(decided).mappings()]
        names = self._names(connection, floor)
        for row in found:
            for answered in orjson.loads(row["detail"])["answered"]:
                name = names.get(int(answered))
                if name is not None:
                    self._decided[name] = row
        parked = select(inbox.c.dedupe_key, inbox.c.state).where(
            inbox.c.account_id == self._account_id,
            inbox.c.id >= floor,
            inbox.c.state.in_(("parked", "rejected", "ignored")),
        )
        for row in connection.execute(parked):
            name = row.dedupe_key.removeprefix("m:")
            if name.startswith(self._run):
                self._parked[name] = row.state

    def _names(self, connection: Connection, floor: int) -> dict[int, str]:
        """Return the platform's ids of the run's inbound messages by ours."""
        rows = self._of_run(
            select(messages.c.id, messages.c.external_id).join(
                conversations, conversations.c.id == messages.c.conversation_id
            )
        ).where(messages.c.direction == "in", messages.c.id >= floor)
        return {row.id: row.external_id for row in connection.execute(rows) if row.external_id}

    def _replies(self, connection: Connection) -> dict[int, tuple[str, ...]]:
        rows = self._of_run(
            select(messages.c.decision_id, messages.c.content).join(
                conversations, conversations.c.id == messages.c.conversation_id
            )
        ).where(messages.c.direction == "out", messages.c.decision_id.is_not(None))
        found: dict[int, tuple[str, ...]] = {}
        for row in connection.execute(rows.order_by(messages.c.conversation_id, messages.c.seq)):
            text = orjson.loads(row.content).get("text") or ""
            found[row.decision_id] = (*found.get(row.decision_id, ()), text)
        return found

    def _states(self, connection: Connection) -> dict[str, str]:
        rows = select(inbox.c.dedupe_key, inbox.c.state).where(
            inbox.c.account_id == self._account_id, inbox.c.id >= id_at(self._since_ms)
        )
        return {
            row.dedupe_key.removeprefix("m:"): row.state
            for row in connection.execute(rows)
            if row.dedupe_key.startswith(f"m:{self._run}")
        }


def _undecided(state: str | None, *, is_acked: bool) -> str:
    if state == "done":
        # A human had the conversation already, so there was nothing to decide.
        return "silent"
    return "pending" if state == "open" or is_acked else "refused"


def summarise(outcomes: Sequence[Outcome], *, seconds: float) -> dict[str, Any]:
    """Return the JSON document of a run: numbers and shares (0-1) by outcome, band, rule, first reason and entry."""
    total = len(outcomes)

    def counted(names: Iterable[str | None]) -> dict[str, dict[str, float]]:
        counts = Counter(name for name in names if name is not None)
        return {name: {"count": count, "share": count / total} for name, count in counts.most_common()}

    return {
        "messages": total,
        "seconds": seconds,
        "outcomes": counted(outcome.outcome for outcome in outcomes),
        "bands": counted(outcome.band for outcome in outcomes),
        "rules": counted(outcome.rule for outcome in outcomes),
        "reasons": counted(outcome.why[0] if outcome.why else None for outcome in outcomes),
        "entries": counted(outcome.entry for outcome in outcomes if outcome.outcome == "answered"),
    }
