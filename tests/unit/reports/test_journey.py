"""A message's journey, read back from the rows that the stages left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, create_engine, insert, select, update

from app.core.ids import id_at
from app.reports.journey import Journey, journey_of
from app.storage.tables import (
    accounts,
    conversations,
    decisions,
    delivery_attempts,
    escalations,
    inbox,
    messages,
    metadata,
    outbox,
    shops,
)

AT = 1_795_000_000_000
TITLES = {"log_track": "我的快递到哪了？", "log_days": "几天能到？"}


class Story:
    """Writes what happened, as the stages would."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.counter = id_at(AT)
        self.add(shops, id="s", name="店", settings="{}", created_at_ms=AT, updated_at_ms=AT)
        self.add(
            accounts,
            id="a",
            channel="generic",
            shop_id="s",
            settings="{}",
            created_at_ms=AT,
            updated_at_ms=AT,
        )
        self.conversation = self.add(
            conversations, account_id="a", external_id="c-1", shop_id="s", channel="generic", buyer_id=1,
            buyer_external_id="b", partition=0, state="bot", stage="dialogue", version=1, memory="{}", last_seq=0,
            created_at_ms=AT, updated_at_ms=AT,
        )  # fmt: skip
        self.seq = 0

    def add(self, table: Any, **values: Any) -> int:
        self.counter += 1
        if "id" in table.c:
            values.setdefault("id", self.counter)
        self.connection.execute(insert(table), values)
        return values.get("id", self.counter)

    def receive(self, name: str, *, at: int = 0, duplicates: int = 0) -> int:
        return self.add(
            inbox, account_id="a", channel="generic", kind="message", dedupe_key=f"m:{name}", lane_key="c-1",
            partition=0, headers="{}", body=b"{}", received_at_ms=AT + at, state="open", duplicates=duplicates,
        )  # fmt: skip

    def message(self, text: str, *, at: int, direction: str = "in", decision_id: int | None = None) -> int:
        self.seq += 1
        return self.add(
            messages, conversation_id=self.conversation, seq=self.seq, session=1, direction=direction, author="x",
            content=orjson.dumps({"type": "text", "text": text}).decode(), created_at_ms=AT + at, status="x",
            decision_id=decision_id,
        )  # fmt: skip

    def decide(self, received: list[tuple[int, str]], *, at: int, kind: str = "answer", **detail: Any) -> int:
        """Decide over inbox rows with their texts, as one turn."""
        rows = {inbox_id: self.message(text, at=0) for inbox_id, text in received}
        document = {
            "matches": [
                {
                    "text": text,
                    "confidence": 0.97,
                    "band": "answer",
                    "ranked": [
                        {"entry_id": "log_track", "score": 0.97, "variant": "查快递"},
                        {"entry_id": "log_days", "score": 0.2, "variant": "几天到"},
                    ],
                }
                for _, text in received
            ],
            "applied": [{"entry_id": "log_track", "topic": "log_track", "confidence": 0.97}],
            "why": [],
            "nodes": ["log_track"],
            "order_id": "O-9",
            "answered": [str(message_id) for message_id in rows.values()],
            **detail,
        }
        decision = self.add(
            decisions, conversation_id=self.conversation, kind=kind, knowledge_version=3,
            detail=orjson.dumps(document).decode(), micros=900, decided_at_ms=AT + at,
        )  # fmt: skip
        for inbox_id, message_id in rows.items():
            self.connection.execute(
                update(inbox).where(inbox.c.id == inbox_id).values(state="done", message_id=message_id)
            )
            self.connection.execute(
                update(messages).where(messages.c.id == message_id).values(decision_id=decision)
            )
        return decision

    def reply(
        self, decision: int, *, at: int, state: str = "sent", attempts: tuple[tuple[int, str, int], ...]
    ) -> int:
        """A reply with its attempts: when it began (milliseconds after the start), outcome, status."""
        message_id = self.message("亲，查到了", at=at, direction="out", decision_id=decision)
        outbox_id = self.add(
            outbox, conversation_id=self.conversation, account_id="a", partition=0, message_id=message_id,
            author="bot", supersedable=True, payload="{}", state=state, attempts=len(attempts),
            next_attempt_at_ms=AT + at, deadline_ms=AT + 1_000_000, created_at_ms=AT + at, done_at_ms=AT + at + 1,
        )  # fmt: skip
        for number, (begun, outcome, status) in enumerate(attempts, 1):
            self.connection.execute(
                insert(delivery_attempts).values(
                    outbox_id=outbox_id, number=number, started_at_ms=AT + begun, duration_ms=2, outcome=outcome,
                    status_code=status,
                )
            )  # fmt: skip
        return message_id

    def echo(self, message_id: int, *, at: int) -> None:
        row = self.receive(f"echo-{message_id}", at=at)
        self.connection.execute(
            update(inbox).where(inbox.c.id == row).values(kind="echo", state="done", message_id=message_id)
        )

    def journey(self, name: str) -> Journey | None:
        return journey_of(self.connection, account_id="a", external_message_id=name, entry_title=TITLES.get)


@pytest.fixture
def story() -> Iterator[Story]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield Story(connection)
    engine.dispose()


def kinds(journey: Journey | None) -> list[str]:
    assert journey is not None
    return [stage.kind for stage in journey.stages]


def stage(journey: Journey | None, kind: str) -> dict[str, Any]:
    assert journey is not None
    return next(one.to_wire() for one in journey.stages if one.kind == kind)


def test_a_message_that_never_came_has_no_journey(story: Story):
    assert story.journey("m-1") is None


def test_a_message_that_waits_for_its_turn_was_received_and_goes_on(story: Story):
    story.receive("m-1")
    journey = story.journey("m-1")
    assert kinds(journey) == ["received"]
    assert journey is not None
    assert not journey.settled


def test_a_complete_question_is_understood_decided_sent_and_confirmed(story: Story):
    decision = story.decide([(story.receive("m-1"), "我的快递到哪了")], at=4)
    reply = story.reply(decision, at=4, attempts=((10, "delivered", 200),))
    story.echo(reply, at=15)
    journey = story.journey("m-1")
    assert kinds(journey) == ["received", "understood", "decided", "attempt", "confirmed"]
    assert journey is not None
    assert journey.settled
    assert (journey.waiting_ms, journey.processing_ms, journey.sending_ms) == (0, 10, 5)
    assert stage(journey, "understood")["matches"][0]["ranked"][0]["title"] == "我的快递到哪了？"
    decided = stage(journey, "decided")
    assert (decided["decision"], decided["order_id"], decided["knowledge_version"]) == ("answer", "O-9", 3)


def test_every_message_of_a_burst_tells_of_the_wait_and_the_others(story: Story):
    first, second = story.receive("m-1"), story.receive("m-2", at=900)
    decision = story.decide([(first, "在吗"), (second, "我的快递到哪了")], at=3400)
    story.reply(decision, at=3400, attempts=((3410, "delivered", 200),))
    journey = story.journey("m-1")
    assert stage(journey, "burst")["texts"] == ["在吗", "我的快递到哪了"]
    assert journey is not None
    assert journey.waiting_ms == 3400
    assert "burst" in kinds(story.journey("m-2"))


def test_a_duplicate_shows_with_its_number(story: Story):
    story.decide([(story.receive("m-1", duplicates=2), "在吗")], at=4)
    assert stage(story.journey("m-1"), "duplicate")["count"] == 2


def test_each_attempt_shows_its_result_and_when_the_next_one_came(story: Story):
    decision = story.decide([(story.receive("m-1"), "在吗")], at=4)
    story.reply(decision, at=4, attempts=((10, "retry", 503), (1015, "delivered", 200)))
    journey = story.journey("m-1")
    assert journey is not None
    attempts = [one.to_wire() for one in journey.stages if one.kind == "attempt"]
    assert [(one["number"], one["outcome"], one["status"]) for one in attempts] == [
        (1, "retry", 503),
        (2, "delivered", 200),
    ]
    assert attempts[0]["next_at_ms"] == AT + 1015
    assert not journey.settled, "the marketplace hasn't confirmed it yet"


def test_a_reply_that_a_human_overtook_was_dropped(story: Story):
    decision = story.decide([(story.receive("m-1"), "在吗")], at=4)
    story.reply(decision, at=4, state="dropped", attempts=())
    journey = story.journey("m-1")
    assert "dropped" in kinds(journey)
    assert journey is not None
    assert journey.settled


def test_a_handover_says_to_whom_why_and_what_became_of_it(story: Story):
    received = story.receive("m-1")
    escalation = {"group": "supervisor", "reason": "legal_threat", "priority": "urgent", "major": True}
    story.decide([(received, "打12315")], at=4, kind="escalate", escalation=escalation)
    story.add(
        escalations, conversation_id=story.conversation, shop_id="s", group_id="supervisor", rule="E1", reason="x",
        priority="urgent", priority_rank=3, major=True, state="accepted", packet="{}", waiting_since_ms=AT,
        deadline_ms=AT, created_at_ms=AT + 4,
    )  # fmt: skip
    story.connection.execute(update(conversations).values(state="human"))
    journey = story.journey("m-1")
    told = stage(journey, "decided")["escalation"]
    assert (told["group"], told["reason"], told["priority"]) == ("supervisor", "legal_threat", "urgent")
    assert (told["state"], told["owner"]) == ("accepted", "human")


def test_another_account_s_message_of_the_same_name_is_not_told(story: Story):
    story.receive("m-1")
    assert journey_of(story.connection, account_id="b", external_message_id="m-1") is None


def test_reading_a_journey_changes_nothing(story: Story):
    story.decide([(story.receive("m-1"), "在吗")], at=4)
    before = story.connection.execute(select(inbox)).all()
    story.journey("m-1")
    assert story.connection.execute(select(inbox)).all() == before
