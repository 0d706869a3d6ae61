"""The one transaction of a turn, on both databases: all of it or nothing, and never by a process that lost its lease."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from app.core.metrics import Metrics
from app.domain.conversations import Conversation, ConversationState, Memory
from app.domain.messages import Author, Content, EventKind, InboundEvent
from app.pipeline.commit import CommitTurns, InboxDone, StaleTurnError, TurnCommit
from app.pipeline.inbox import InboxItem, StoreInbox
from app.pipeline.partitions import FencedError, take_all
from app.pipeline.records import ConversationRecord, load_record
from app.pipeline.writing import buyer_row, conversation_values, outbound_message
from app.storage.database import Database
from app.storage.tables import accounts, conversations, inbox, messages, metadata, shops
from tests.fakes import FakeClock, FakeIds

NOW = FakeClock().now_ms()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, metrics=Metrics())
    await opened.open()

    def prepare(connection: Connection) -> None:
        metadata.create_all(connection)
        connection.execute(
            shops.insert().values(id="s", name="s", settings="{}", created_at_ms=1, updated_at_ms=1)
        )
        connection.execute(
            accounts.insert().values(
                id="a", channel="generic", shop_id="s", settings="{}", created_at_ms=1, updated_at_ms=1
            )
        )

    await opened.write(prepare)
    yield opened
    await opened.close()


def a_record(ids: FakeIds, name: str = "c-1") -> ConversationRecord:
    return ConversationRecord(
        conversation=Conversation(
            id=ids.next(), account_id="a", external_id=name, shop_id="s", channel="generic",
            state=ConversationState.BOT, version=1, buyer_external_id="b-1", memory=Memory(session=1),
        ),
        buyer_id=7,
        partition=5,
        created_at_ms=NOW,
    )  # fmt: skip


def a_commit(ids: FakeIds, record: ConversationRecord, epoch: int, *texts: str, **more: Any) -> TurnCommit:
    rows = [
        outbound_message(
            ids, record, author=Author.BOT, content=Content(text=text), now_ms=NOW, status="queued"
        )
        for text in texts
    ]
    return TurnCommit(
        partition=record.partition,
        epoch=epoch,
        conversation_id=record.conversation.id,
        expected_version=record.stored_version or None,
        conversation=conversation_values(record, last_message=rows[-1] if rows else None, now_ms=NOW),
        now_ms=NOW,
        buyer=buyer_row(record, NOW) if record.is_new else None,
        messages=rows,
        **more,
    )


def an_event(ids: FakeIds, message_id: str, body: bytes = b"{}", *, load: bool = False) -> InboxItem:
    return InboxItem(
        id=ids.next(), account_id="a", shop_id="s", channel="generic",
        event=InboundEvent(kind=EventKind.MESSAGE, dedupe_key=f"m:{message_id}", conversation_id="c-1"),
        lane_key="c-1", partition=5, received_at_ms=NOW, headers={}, body=body, load_conversation=load,
    )  # fmt: skip


async def texts_of(database: Database) -> list[tuple[int, str]]:
    statement = select(messages.c.seq, messages.c.content).order_by(
        messages.c.conversation_id, messages.c.seq
    )
    rows = await database.read(lambda connection: connection.execute(statement).all())
    return [(row[0], row[1]) for row in rows]


async def own(database: Database, owner: str = "me") -> int:
    epochs = await database.write(lambda connection: take_all(connection, owner, now_ms=NOW))
    return epochs[5]


async def test_messages_are_numbered_in_order_and_the_inbox_row_is_done(database: Database) -> None:
    ids, operation = FakeIds(), CommitTurns()
    epoch = await own(database)
    event = an_event(ids, "m-1")
    await database.writer.submit(StoreInbox(), event)
    record = a_record(ids)
    done = [InboxDone(event.id, "done", None, None)]
    await database.writer.submit(operation, a_commit(ids, record, epoch, "一", "二", inbox_done=done))
    stored = await database.read(lambda connection: load_record(connection, "a", "c-1"))
    assert stored is not None
    await database.writer.submit(operation, a_commit(ids, stored, epoch, "三"))
    assert [seq for seq, _ in await texts_of(database)] == [1, 2, 3]
    state = await database.read(lambda connection: connection.execute(select(inbox.c.state)).scalar_one())
    assert state == "done"


async def test_a_turn_decided_before_an_agent_took_over_writes_nothing(database: Database) -> None:
    ids, operation = FakeIds(), CommitTurns()
    epoch = await own(database)
    await database.writer.submit(operation, a_commit(ids, a_record(ids), epoch, "first"))
    stored = await database.read(lambda connection: load_record(connection, "a", "c-1"))
    assert stored is not None

    def take_over(connection: Connection) -> None:
        connection.execute(update(conversations).values(state="human", version=conversations.c.version + 1))

    await database.write(take_over)
    with pytest.raises(StaleTurnError):
        await database.writer.submit(operation, a_commit(ids, stored, epoch, "too late"))
    assert len(await texts_of(database)) == 1
    state = await database.read(
        lambda connection: connection.execute(select(conversations.c.state)).scalar_one()
    )
    assert state == "human"


async def test_a_process_that_lost_its_lease_writes_nothing_and_spoils_nobody(database: Database) -> None:
    ids, operation = FakeIds(), CommitTurns()
    old = await own(database, "old")
    new = await own(database, "new")
    assert new > old
    late, current = a_record(ids, "c-late"), a_record(ids, "c-now")
    results = await asyncio.gather(
        database.writer.submit(operation, a_commit(ids, late, old, "late")),
        database.writer.submit(operation, a_commit(ids, current, new, "in time")),
        return_exceptions=True,
    )
    assert isinstance(results[0], FencedError)
    assert results[1] is None
    count = await database.read(
        lambda connection: connection.execute(select(func.count()).select_from(conversations)).scalar_one()
    )
    assert count == 1


async def test_two_first_turns_of_one_conversation_leave_one_row(database: Database) -> None:
    ids, operation = FakeIds(), CommitTurns()
    epoch = await own(database)
    results = await asyncio.gather(
        database.writer.submit(operation, a_commit(ids, a_record(ids), epoch, "one")),
        database.writer.submit(operation, a_commit(ids, a_record(ids), epoch, "other")),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, Exception) for result in results) == [False, True]
    assert len(await texts_of(database)) == 1


async def test_a_hundred_posts_of_one_message_leave_one_row_and_are_counted(database: Database) -> None:
    ids, operation = FakeIds(), StoreInbox()
    items = [an_event(ids, "m-1") for _ in range(100)]
    results = await asyncio.gather(*(database.writer.submit(operation, item) for item in items))
    assert [result.is_new for result in results].count(True) == 1
    rows = await database.read(
        lambda connection: connection.execute(select(inbox.c.state, inbox.c.duplicates)).all()
    )
    assert [tuple(row) for row in rows] == [("open", 99)]


async def test_an_id_used_again_with_another_body_changes_nothing_and_is_kept_for_admins(
    database: Database,
) -> None:
    ids, operation = FakeIds(), StoreInbox()
    await database.writer.submit(operation, an_event(ids, "m-1", b'{"first": 1}'))
    again = await database.writer.submit(operation, an_event(ids, "m-1", b'{"other": 2}'))
    assert not again.is_new
    statement = select(inbox.c.state, inbox.c.reason, inbox.c.body).order_by(inbox.c.id)
    rows = await database.read(lambda connection: connection.execute(statement).all())
    assert [(row.state, bytes(row.body)) for row in rows] == [
        ("open", b'{"first": 1}'),
        ("ignored", b'{"other": 2}'),
    ]
    assert rows[1].reason.startswith("id_reused:")


async def test_storing_an_event_brings_its_conversation_along_when_asked(database: Database) -> None:
    ids = FakeIds()
    epoch = await own(database)
    first = await database.writer.submit(StoreInbox(), an_event(ids, "m-1", load=True))
    assert first.record is None
    await database.writer.submit(CommitTurns(), a_commit(ids, a_record(ids), epoch, "hello"))
    second = await database.writer.submit(StoreInbox(), an_event(ids, "m-2", load=True))
    assert second.record is not None
    assert second.record.conversation.external_id == "c-1"
    assert second.record.memory == Memory(session=1)
