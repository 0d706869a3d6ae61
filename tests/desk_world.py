"""A desk on a real database with people, conversations and escalations that tests put into it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from app.core.metrics import Metrics
from app.delivery.outbox import OutboxItem
from app.desk.connections import LivingProcesses
from app.desk.conversations import ConversationService
from app.desk.duty import Duty
from app.desk.escalations import EscalationService
from app.desk.groups import default_group_rows
from app.desk.hub import EventHub
from app.desk.messages import add_message
from app.desk.packets import escalation_row
from app.desk.passwords import Argon2Cost, Passwords
from app.desk.people import User
from app.desk.permissions import Role
from app.desk.presence import PresenceService, Status
from app.desk.router import Router
from app.desk.scope import read_conversation
from app.desk.sending import SendService
from app.desk.work import Desk
from app.domain.conversations import Priority
from app.domain.messages import Author, Content, Direction
from app.domain.shops import ShopPolicy
from app.domain.turns import Escalation, Suggestion
from app.storage.database import Database
from app.storage.tables import (
    accounts,
    buyers,
    console_events,
    conversations,
    escalations,
    groups,
    messages,
    metadata,
    outbox,
    shops,
    users,
)
from tests.fakes import FakeClock, FakeIds

CHEAP = Argon2Cost(passes=1, memory_kib=64, lanes=1)
"""A hash that costs next to nothing."""


def create_tables(connection: Connection) -> None:
    """Make every table and the default groups."""
    metadata.create_all(connection)
    if connection.execute(select(groups.c.id)).first() is None:
        connection.execute(insert(groups), default_group_rows())


class DeskWorld:
    """The services of the desk wired together, and shortcuts to fill and read the database."""

    def __init__(
        self,
        database: Database,
        *,
        clock: FakeClock,
        ids: FakeIds,
        metrics: Metrics,
        process: str | None = None,
        living: LivingProcesses | None = None,
        duty: Duty | None = None,
    ) -> None:
        """`process`, `living` and `duty` make it one of several processes."""
        self.database = database
        self.clock = clock
        self.ids = ids
        self.metrics = metrics
        self.changed: list[int] = []
        self.enqueued: list[OutboxItem] = []
        self.objections: list[str] = []
        self.policy = ShopPolicy(id="s1", name="青禾")
        self.hub = EventHub(database, clock=clock)
        self.desk = Desk(
            database,
            clock=clock,
            ids=ids,
            on_conversation_changed=self.changed.append,
            on_enqueued=self.enqueued.extend,
            on_events=self.hub.notify,
            on_queue_changed=lambda: self.router.kick(),
        )
        self.passwords = Passwords(CHEAP)
        self.presence = PresenceService(
            self.desk,
            policy_of=self.policy_of,
            process=lambda: process or "only",
            living=living,
            duty=duty,
        )
        self.router = Router(self.desk, presence=self.presence, policy_of=self.policy_of, duty=duty)
        self.escalations = EscalationService(self.desk)
        self.conversations = ConversationService(self.desk, policy_of=self.policy_of)
        self.sending = SendService(
            self.desk, check_text=lambda text: [one for one in self.objections if one in text]
        )

    @classmethod
    async def open(cls, url: str, *, clock: FakeClock, ids: FakeIds) -> DeskWorld:
        """Make the tables, the groups, one shop and one account."""
        metrics = Metrics()
        database = Database(url, metrics=metrics)
        await database.open()
        world = cls(database, clock=clock, ids=ids, metrics=metrics)
        now = clock.now_ms()

        def fill(connection: Connection) -> None:
            create_tables(connection)
            for shop in ("s1", "s2"):
                connection.execute(
                    insert(shops),
                    {"id": shop, "name": shop, "settings": "{}", "created_at_ms": now, "updated_at_ms": now},
                )
                connection.execute(
                    insert(accounts),
                    {"id": f"a-{shop}", "channel": "generic", "shop_id": shop, "settings": "{}",
                     "created_at_ms": now, "updated_at_ms": now},
                )  # fmt: skip

        await database.write(fill)
        return world

    async def close(self) -> None:
        """Stop what runs and close the database."""
        await self.router.stop()
        await self.presence.stop()
        await self.hub.stop()
        await self.database.close()

    def now_of(self, _connection: Connection) -> int:
        """The time that leases and limits go by: the fake clock's, on every database."""
        return self.clock.now_ms()

    def policy_of(self, shop_id: str) -> ShopPolicy:
        """Every shop has the same settings."""
        return self.policy

    async def person(
        self,
        name: str,
        *,
        role: Role = Role.AGENT,
        groups: Sequence[str] = (),
        shops: Sequence[str] = (),
        max_load: int = 8,
    ) -> User:
        """Add somebody without a password."""
        user = User(
            id=self.ids.next(), name=name, display_name=name, role=role, groups=tuple(groups), shops=tuple(shops),
            max_load=max_load,
        )  # fmt: skip
        row = {
            "id": user.id, "name": name, "display_name": name, "role": role.value,
            "groups": json.dumps(list(groups)), "shops": json.dumps(list(shops)), "max_load": max_load,
            "created_at_ms": self.clock.now_ms(), "updated_at_ms": self.clock.now_ms(),
        }  # fmt: skip
        await self.database.write(lambda connection: connection.execute(insert(users), row).rowcount)
        return user

    async def come_online(self, *people: User) -> None:
        """Connect people by a socket each and set their status to online."""
        for user in people:
            await self.presence.connected(user)
            await self.presence.set_status(user, Status.ONLINE)

    async def conversation(
        self,
        name: str = "c-1",
        *,
        shop: str = "s1",
        state: str = "bot",
        agent: User | None = None,
        group: str | None = None,
    ) -> int:
        """Add a conversation with one message of its buyer's."""
        conversation_id, buyer_id, now = self.ids.next(), self.ids.next(), self.clock.now_ms()

        def store(connection: Connection) -> None:
            connection.execute(
                insert(buyers),
                {"id": buyer_id, "account_id": f"a-{shop}", "external_id": f"b-{name}", "nickname": "小王",
                 "tags": '["老客"]', "created_at_ms": now, "updated_at_ms": now},
            )  # fmt: skip
            connection.execute(
                insert(conversations),
                {"id": conversation_id, "account_id": f"a-{shop}", "external_id": name, "shop_id": shop,
                 "channel": "generic", "buyer_id": buyer_id, "buyer_external_id": f"b-{name}",
                 "buyer_nickname": "小王", "partition": 3, "state": state, "stage": "dialogue", "version": 1,
                 "group_id": group, "agent_id": agent.id if agent else None, "memory": "{}", "last_seq": 0,
                 "waiting_since_ms": now, "created_at_ms": now, "updated_at_ms": now},
            )  # fmt: skip

        await self.database.write(store)
        await self.buyer_says(conversation_id, "我要投诉你们,打12315")
        return conversation_id

    async def buyer_says(self, conversation_id: int, text: str) -> int:
        """Add a message of the buyer's; return its id."""

        def say(work: Any) -> int:
            row = read_conversation(work.connection, conversation_id)
            _, message = add_message(
                work,
                row,
                direction=Direction.IN,
                author=Author.BUYER,
                content=Content(text=text),
                status="received",
            )
            external = f"m-{message['id']}"
            work.connection.execute(
                update(messages).where(messages.c.id == message["id"]).values(external_id=external)
            )
            return message["id"]

        return await self.desk.change(say)

    async def escalate(
        self,
        conversation_id: int,
        *,
        group: str = "presale",
        priority: Priority = Priority.NORMAL,
        major: bool = False,
    ) -> int:
        """Put a conversation into the queue the way the turn's transaction does; return the escalation's id."""
        escalation_id = self.ids.next()

        def store(work: Any) -> None:
            row = read_conversation(work.connection, conversation_id)
            work.connection.execute(
                insert(escalations),
                escalation_row(
                    escalation_id=escalation_id,
                    conversation_id=conversation_id,
                    shop_id=row["shop_id"],
                    escalation=Escalation(
                        group=group, rule="E1", reason="legal", priority=priority, major=major
                    ),
                    policy=self.policy,
                    now_ms=work.now_ms,
                    order={"order_id": "O-9", "receiver": {"name": "王小明", "phone": "13800001234"}},
                    orders=[{"order_id": "O-9"}],
                    suggestions=[
                        Suggestion(entry_id=f"e{n}", title="", text="您好", score=0.5) for n in range(5)
                    ],
                ),
            )
            work.connection.execute(
                update(conversations)
                .where(conversations.c.id == conversation_id)
                .values(state="queued", group_id=group, version=conversations.c.version + 1)
            )
            work.queue_changed = True

        await self.desk.change(store)
        return escalation_id

    async def row(self, table: Any, row_id: int) -> Mapping[Any, Any]:
        """Read one row by id."""
        return await self.database.read(
            lambda connection: connection.execute(select(table).where(table.c.id == row_id)).mappings().one()
        )

    async def conversation_row(self, conversation_id: int) -> Mapping[Any, Any]:
        """Read a conversation."""
        return await self.row(conversations, conversation_id)

    async def escalation_row(self, escalation_id: int) -> Mapping[Any, Any]:
        """Read an escalation."""
        return await self.row(escalations, escalation_id)

    async def outbox_rows(self) -> list[Mapping[Any, Any]]:
        """Read everything that was to leave."""
        return await self.database.read(
            lambda connection: list(connection.execute(select(outbox).order_by(outbox.c.id)).mappings())
        )

    async def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Read the event log: type, addressed agent and group, data."""

        def look(connection: Connection) -> list[dict[str, Any]]:
            rows = connection.execute(select(console_events).order_by(console_events.c.seq)).mappings()
            return [{**row, "data": json.loads(row["data"])} for row in rows if kind in (None, row["type"])]

        return await self.database.read(look)


class RecordingSubscriber:
    """Stands for a socket: keeps what the hub pushes."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.watching: set[int] = set()
        self.frames: list[dict[str, Any]] = []
        self.controls: list[tuple[str, dict[str, str]]] = []

    def push(self, frame: str, size: int) -> None:
        """Keep a frame."""
        self.frames.append(json.loads(frame))

    async def room(self) -> None:
        """There is always room."""

    def control(self, kind: str, data: Mapping[str, str]) -> None:
        """Keep what processes say to each other."""
        self.controls.append((kind, dict(data)))

    def types(self) -> list[str]:
        """The types of what came, in order."""
        return [frame["type"] for frame in self.frames]
