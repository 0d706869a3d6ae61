"""One simulated process: the program's own objects, put together as ``app.wiring`` does."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from sqlalchemy import func, select

from app.bus.base import CONVERSATIONS
from app.core.metrics import Metrics
from app.delivery.feed import OutboxFeed
from app.delivery.outbox import OutboxItem
from app.delivery.service import DeliveryService
from app.desk.conversations import ConversationService
from app.desk.sending import SendService
from app.desk.work import Desk
from app.domain.delivery import RawDelivery
from app.pipeline.backlog import Backlog
from app.pipeline.commit import TurnCommit
from app.pipeline.inbox import Inbox
from app.pipeline.lanes import Lanes
from app.pipeline.outcomes import DeliveryOutcomes
from app.pipeline.ownership import Ownership
from app.pipeline.place import Place
from app.pipeline.platform_events import PlatformEvents
from app.pipeline.shared_inbox import StoreSharedInbox
from app.pipeline.shared_leases import SharedLeases
from app.pipeline.turn_writer import TurnWriter
from app.pipeline.turns import TurnProcessor
from app.storage.database import Database
from app.storage.lease_line import LeaseLine
from app.storage.tables import decisions, escalations, inbox, messages, outbox
from app.storage.time import shared_time
from tests.simulation.loop import Host
from tests.simulation.network import Air, Bus, Client, Marketplace
from tests.simulation.parts import CHANNEL, Directory, Ids, Knowledge, Orders, Policy
from tests.simulation.store import Store, StoreDatabase, StoreLine

__all__ = ["Process", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes share."""

    store: Store
    marketplace: Marketplace
    air: Air
    metrics: Metrics
    burst_quiet: float
    on_check: Callable[[Host, int], None]
    """Called when the sender begins to ask whether a reply may still leave."""
    on_heard: Callable[[Host, int], None]
    """Called when a process hears that its change of a conversation is committed."""
    gone: Set[str]
    """Identities of processes that have ended."""


class _Outcomes(DeliveryOutcomes):
    """Tells when it is asked."""

    def watched_by(self, host: Host, on_check: Callable[[Host, int], None]) -> None:
        self._host, self._on_check = host, on_check

    async def is_superseded(self, item: OutboxItem) -> bool:
        self._on_check(self._host, item.id)
        return await super().is_superseded(item)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place(Place):
    """Sees at once which processes of its machine have ended."""

    gone: Set[str]

    def is_dead(self, identity: str) -> bool:
        return bool(identity) and identity in self.gone


class Process:
    """One Huoji process."""

    def __init__(
        self, host: Host, number: int, around: Surroundings, chance: Random, *, identity: str
    ) -> None:
        """``identity``: what others on the same machine see of it; empty when there are none."""
        self.host = host
        self.identity = identity
        self.prefix = f"{host.name}:{number}:"
        """How its ids among the leases begin."""
        clock, metrics = host, around.metrics
        self._on_heard = around.on_heard
        ids = self.ids = Ids(clock, chance)
        database = self.database = cast("Database", StoreDatabase(around.store, host, metrics=metrics))
        bus = self.bus = Bus(host, around.air)
        directory = Directory(burst_quiet=around.burst_quiet, burst_max=3 * around.burst_quiet)
        leases = self.leases = SharedLeases(
            line=cast("LeaseLine", StoreLine(around.store, host)), clock=clock, ids=ids, metrics=metrics, bus=bus,
            place=_Place(host=host.name, pid=number, identity=identity, gone=around.gone),
            on_shared=self._look_around,
        )  # fmt: skip
        self.desk = Desk(
            database, clock=clock, ids=ids, on_conversation_changed=self._conversation_changed,
            on_enqueued=lambda items: self.feed.written(items), on_events=_nothing, on_queue_changed=_nothing,
            now_of=shared_time(clock), require_living=leases.require_living,
        )  # fmt: skip
        self.conversations = ConversationService(self.desk, policy_of=directory.shop)
        self.sending = SendService(self.desk, check_text=lambda _text: ())
        writer = TurnWriter(
            database=database, clock=clock, ids=ids, epochs=leases.epochs, on_committed=self._committed,
            on_found_done=lambda partition: self.feed.look({partition}),
        )  # fmt: skip
        orders = Orders()
        knowledge = Knowledge()
        self.turns = TurnProcessor(
            database=database, directory=directory, knowledge=lambda: knowledge, policy=cast("Any", Policy()),
            orders=orders, writer=writer,
            platform_events=PlatformEvents(database=database, writer=writer, orders=orders, clock=clock, ids=ids),
            clock=clock, ids=ids, metrics=metrics,
        )  # fmt: skip
        self.lanes = Lanes(
            worker=self.turns, clock=clock, metrics=metrics, on_fenced=leases.fenced,
            is_shared=self._may_find_more, before_turn=lambda record: self.feed.look({record.partition}),
        )  # fmt: skip
        outcomes = self.outcomes = _Outcomes(
            desk=self.desk, lanes=self.lanes, policy_of=directory.shop, on_events=_nothing,
            is_shared=lambda: leases.is_shared,
        )  # fmt: skip
        outcomes.watched_by(host, around.on_check)
        self.delivery = DeliveryService(
            database=database, directory=directory, client=Client(host, around.marketplace), clock=clock, ids=ids,
            metrics=metrics, hooks=outcomes, partitions=leases,
        )  # fmt: skip
        self.feed = OutboxFeed(
            database=database, sender=self.delivery, clock=clock, bus=bus, is_shared=self._may_find_more,
            epochs=leases.epochs,
        )  # fmt: skip
        self.backlog = Backlog(
            database=database, directory=directory, lanes=self.lanes, clock=clock, bus=bus,
            is_shared=self._may_find_more, epochs=leases.epochs,
        )  # fmt: skip
        self.ownership = Ownership(
            lanes=self.lanes, backlog=self.backlog, delivery=self.delivery, feed=self.feed, clock=clock,
            epochs=lambda: leases.epochs,
        )  # fmt: skip
        self.inbox = Inbox(
            database=database, directory=directory, clock=clock, ids=ids, is_cached=self.lanes.is_cached,
            on_stored=self.backlog.stored,
            store=StoreSharedInbox(
                clock=clock, is_shared=self._may_find_more, epochs=leases.epochs, is_new=self.lanes.is_new
            ),
            is_member=leases.is_member,
        )  # fmt: skip
        database.writer.on_unsure = self._look_around
        bus.subscribe(CONVERSATIONS, self._changed_elsewhere)
        self.is_ready = False

    async def start(self) -> None:
        """Begin, as the program does; again and again while the database is away, as a supervisor would."""
        self.database.writer.start()
        self.ids.raise_floor(await self._until_it_works(lambda: self.database.read(_highest_id)))
        self.feed.start()
        self.backlog.start()
        await self._until_it_works(lambda: self.leases.start(self.ownership))
        self.is_ready = True

    async def _until_it_works(self, action: Callable[[], Any]) -> Any:
        while True:
            try:
                return await action()
            except Exception:  # noqa: BLE001 - the database is away
                await self.host.sleep(0.3)

    async def stop(self, seconds: float) -> None:
        """End in good order."""
        self.is_ready = False
        await self.leases.stop(seconds)
        await self.ownership.stop()
        await self.backlog.stop()
        await self.feed.stop()
        await self.lanes.stop(seconds / 2)
        await self.delivery.stop(seconds / 2)
        await self.bus.stop()
        await self.database.writer.stop()

    async def accept(self, account: str, delivery: RawDelivery) -> None:
        """Take a webhook; return when it is to be acked."""
        await self.inbox.accept(CHANNEL, account, delivery)

    def _may_find_more(self) -> bool:
        return self.leases.is_shared or self.database.writer.is_unsure

    def _look_around(self) -> None:
        self.backlog.hinted("")
        self.feed.hinted("")

    def _committed(self, commit: TurnCommit) -> None:
        if commit.outbox:
            self.feed.committed(commit.outbox)

    def _conversation_changed(self, conversation_id: int) -> None:
        self._on_heard(self.host, conversation_id)
        self._forget(conversation_id)
        self.bus.publish(CONVERSATIONS, str(conversation_id))

    def _changed_elsewhere(self, payload: str) -> None:
        for word in payload.split(",") if payload else ():
            self._forget(int(word))

    def _forget(self, conversation_id: int) -> None:
        self.lanes.forget(conversation_id)
        self.outcomes.conversation_changed(conversation_id)


def _nothing() -> None:
    """Nobody watches a console here."""


def _highest_id(connection: Any) -> int:
    tables = (inbox, messages, outbox, decisions, escalations)
    return max(connection.execute(select(func.max(table.c.id))).scalar() or 0 for table in tables)
