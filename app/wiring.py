"""Builds every object once, by hand, and starts and stops them in order. Nothing else creates services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, func, select
from starlette.applications import Starlette
from starlette.responses import RedirectResponse

from app.api.health import HEALTH_PATHS, health_routes
from app.api.webhooks import WEBHOOK_PREFIX, WebhookEdge
from app.bus.base import CONVERSATIONS, EVENTS, QUEUE, REVISIONS
from app.bus.make import make_bus
from app.bus.polling import POLL_SECONDS, poll_seconds
from app.channels.addresses import AddressPolicy
from app.channels.http import HttpClient
from app.channels.registry import Registry
from app.core.clock import Clock, SystemClock
from app.core.crashpoints import points
from app.core.crypto import SecretBox
from app.core.errors import UnavailableError
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.delivery.feed import OutboxFeed
from app.delivery.service import DeliveryService
from app.desk.connections import living_processes
from app.desk.duty import PartitionDuty
from app.desk.hub import EventHub
from app.desk.presence import PresenceService
from app.desk.router import IDLE_SECONDS, Router
from app.desk.work import Desk
from app.knowledge.live import LiveKnowledge
from app.knowledge.texts import load_text_book
from app.orders.service import OrderService
from app.pipeline.backlog import Backlog
from app.pipeline.commit import TurnCommit
from app.pipeline.inbox import Inbox
from app.pipeline.lanes import Lanes
from app.pipeline.leases import Leases, SoleLeases
from app.pipeline.outcomes import DeliveryOutcomes
from app.pipeline.ownership import Ownership
from app.pipeline.place import Place
from app.pipeline.platform_events import PlatformEvents
from app.pipeline.shared_inbox import StoreSharedInbox
from app.pipeline.shared_leases import SharedLeases
from app.pipeline.turn_writer import TurnWriter
from app.pipeline.turns import TurnProcessor
from app.pipeline.watch import RevisionWatch
from app.replies.decide import ReplyPolicy
from app.replies.templates import TemplateSet
from app.settings import Settings, load_secret_key
from app.shops.directory import Directory
from app.storage.access import require_writable
from app.storage.damage import require_sound
from app.storage.database import Database
from app.storage.filelock import FileLock
from app.storage.lease_line import LeaseLine
from app.storage.schema import prepare, read_schema, require_usable
from app.storage.tables import decisions, escalations, inbox, messages, outbox
from app.storage.time import shared_time
from app.storage.urls import sqlite_path, wal_bytes

if TYPE_CHECKING:
    from app.wiring_http import HttpSide

__all__ = ["Application"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Application:
    """One Huoji process: an ASGI application and everything behind it."""

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: Metrics,
        demo: bool,
        own_url: str,
        clock: Clock | None = None,
        client: HttpClient | None = None,
    ) -> None:
        """Build what needs no database. ``own_url`` is where the sandbox reaches this very process.

        ``clock`` and ``client``: the machine's own clock and a client over the network, unless given.
        """
        self.settings = settings
        self.metrics = metrics
        self.is_demo = demo
        self.own_url = own_url
        clock = self.clock = clock or SystemClock()
        ids = self.ids = SystemIds(clock)
        key = load_secret_key(settings, ids)
        if key.warning is not None:
            log.warning("settings.secret_key", advice=key.warning)
        self.box = SecretBox(key.value)
        self.registry = Registry()
        allowed = [*settings.allowed_private_hosts, *(("127.0.0.1", "::1", "localhost") if demo else ())]
        self.addresses = AddressPolicy.parse(allowed)
        self.client = client or HttpClient(clock=clock, policy=self.addresses)
        self.database = Database(settings.database_url, metrics=metrics)
        self.bus = make_bus(settings.redis_url, clock=clock, ids=ids, metrics=metrics)
        self.leases = self._make_leases()
        self._lock: FileLock | None = None
        self._build_services()
        self._edge = WebhookEdge(self.inbox, clock=clock, metrics=metrics, max_body=settings.max_body)
        token = settings.metrics_token
        self._health: Any = Starlette(
            routes=health_routes(
                readiness=self.readiness,
                degraded=self.degraded,
                metrics=metrics,
                metrics_token=token.get_secret_value() if token is not None else None,
            )
        )
        self._http: HttpSide | None = None
        self._http_lock = asyncio.Lock()
        self._warming: asyncio.Task[HttpSide] | None = None
        self._closing: asyncio.Task[None] | None = None

    def _make_leases(self) -> Leases:
        place = Place.here()
        if self.database.is_sqlite:
            owner = f"{place.host}:{place.pid}:{self.ids.token(6)}"
            return SoleLeases(database=self.database, clock=self.clock, metrics=self.metrics, owner=owner)
        return SharedLeases(
            line=LeaseLine(self.database.url),
            # Leases run by the database's time, which is no test's.
            clock=SystemClock(),
            ids=self.ids,
            metrics=self.metrics,
            bus=self.bus,
            place=place,
            # Who looks every 15 s by itself would be asleep when the others begin to store.
            on_shared=self._look_around,
        )

    def _may_find_more(self) -> bool:
        """Whether rows may turn up that nobody here was told of: of other processes, or of a commit that went unheard."""
        return self.leases.is_shared or self.database.writer.is_unsure

    def _look_around(self) -> None:
        self.backlog.hinted("")
        self.feed.hinted("")

    async def _found_done(self, partition: int) -> None:
        await self.feed.look({partition})
        self.events_stored()
        self.router.kick()

    def _shared_store(self) -> StoreSharedInbox:
        return StoreSharedInbox(
            # Like the lanes', since it is compared with theirs.
            clock=self.clock,
            is_shared=self._may_find_more,
            epochs=self.leases.epochs,
            is_new=self.lanes.is_new,
        )

    def _build_services(self) -> None:
        clock, ids, database, leases = self.clock, self.ids, self.database, self.leases
        self.directory = Directory(
            database=database,
            registry=self.registry,
            box=self.box,
            clock=clock,
            ids=ids,
            burst_quiet=self.settings.burst_quiet,
            burst_max=self.settings.burst_max,
        )
        templates = TemplateSet()
        self.knowledge = LiveKnowledge(database, templates=templates)
        self.orders = OrderService(database, self.client, self.registry, clock)
        self.hub = EventHub(
            database,
            clock=clock,
            wait_seconds=(lambda: POLL_SECONDS) if database.is_sqlite else self._poll_seconds,
        )
        self.desk = Desk(
            database,
            clock=clock,
            ids=ids,
            on_conversation_changed=self._conversation_changed,
            on_enqueued=lambda items: self.feed.written(items),
            on_events=self.events_stored,
            on_queue_changed=self._queue_changed,
            now_of=shared_time(clock),
            require_living=leases.require_living,
        )
        duty = PartitionDuty(leases.epochs)
        alone = ids.token(9)
        self.presence = PresenceService(
            self.desk,
            policy_of=self.directory.shop,
            process=(lambda: leases.process_id) if isinstance(leases, SharedLeases) else (lambda: alone),
            living=None if database.is_sqlite else living_processes,
            duty=duty,
        )
        self.router = Router(
            self.desk,
            presence=self.presence,
            policy_of=self.directory.shop,
            duty=duty,
            wait_seconds=(lambda: IDLE_SECONDS) if database.is_sqlite else self._poll_seconds,
        )
        writer = TurnWriter(
            database=database, clock=clock, ids=ids, epochs=leases.epochs, on_committed=self._committed,
            on_found_done=self._found_done,
        )  # fmt: skip
        platform_events = PlatformEvents(
            database=database, writer=writer, orders=self.orders, clock=clock, ids=ids
        )  # fmt: skip
        self.turns = TurnProcessor(
            database=database,
            directory=self.directory,
            knowledge=lambda: self.knowledge.current,
            policy=ReplyPolicy(texts=load_text_book(), templates=templates),
            orders=self.orders,
            writer=writer,
            platform_events=platform_events,
            clock=clock,
            ids=ids,
            metrics=self.metrics,
        )
        self.lanes = Lanes(
            worker=self.turns,
            clock=clock,
            metrics=self.metrics,
            on_fenced=leases.fenced,
            is_shared=self._may_find_more,
            before_turn=lambda record: self.feed.look({record.partition}),
        )
        outcomes = self.outcomes = DeliveryOutcomes(
            desk=self.desk,
            lanes=self.lanes,
            policy_of=self.directory.shop,
            on_events=self.events_stored,
            is_shared=lambda: leases.is_shared,
        )
        self.delivery = DeliveryService(
            database=database,
            directory=self.directory,
            client=self.client,
            clock=clock,
            ids=ids,
            metrics=self.metrics,
            hooks=outcomes,
            partitions=None if database.is_sqlite else leases,
        )
        self.feed = OutboxFeed(
            database=database,
            sender=self.delivery,
            clock=clock,
            bus=self.bus,
            is_shared=self._may_find_more,
            epochs=leases.epochs,
        )
        self.backlog = Backlog(
            database=database,
            directory=self.directory,
            lanes=self.lanes,
            clock=clock,
            bus=self.bus,
            is_shared=self._may_find_more,
            epochs=leases.epochs,
        )
        self.ownership = Ownership(
            lanes=self.lanes,
            backlog=self.backlog,
            delivery=self.delivery,
            feed=self.feed,
            clock=clock,
            epochs=lambda: leases.epochs,
        )
        self.inbox = Inbox(
            database=database,
            directory=self.directory,
            clock=clock,
            ids=ids,
            is_cached=self.lanes.is_cached,
            on_stored=self.backlog.stored,
            store=None if database.is_sqlite else self._shared_store(),
            is_member=None if database.is_sqlite else leases.is_member,
        )
        database.writer.on_unsure = self._look_around
        self.watch = RevisionWatch(
            database=database,
            clock=clock,
            refreshes={
                "accounts": self.directory.refresh,
                "shops": self.directory.refresh,
                "knowledge": self.knowledge.refresh,
                "outbox": self.feed.look,
                "users": self._recheck_sessions,
            },
            on_moved=lambda: self.bus.publish(REVISIONS),
        )
        self.bus.subscribe(EVENTS, lambda _payload: self.hub.notify())
        self.bus.subscribe(QUEUE, lambda _payload: self.router.kick())
        self.bus.subscribe(REVISIONS, lambda _payload: self.watch.hinted())
        self.bus.subscribe(CONVERSATIONS, self._conversations_changed_elsewhere)
        self.metrics.open_inbox.set_function(lambda: self.lanes.waiting)
        self.metrics.oldest_open_seconds.set_function(
            lambda: self._age_seconds(self.lanes.oldest_received_ms())
        )
        path = sqlite_path(database.url)
        if path is not None:
            self.metrics.sqlite_wal_bytes.set_function(lambda: wal_bytes(path))
        self.metrics.open_outbox.set_function(lambda: self.delivery.waiting)
        self.metrics.outbox_oldest_seconds.set_function(
            lambda: self._age_seconds(self.delivery.oldest_created_ms)
        )
        self.metrics.breakers_open.set_function(lambda: len(self.delivery.open_breakers))

    async def start(self) -> None:
        """Take the database and everything it holds; ready to serve afterwards.

        Raises:
            ConfigurationError: something is set up wrongly, or another server has the embedded database.
        """
        path = sqlite_path(self.database.url)
        if path is not None:
            require_writable(path)
            self._lock = FileLock(path)
            self._lock.acquire()
        try:
            if path is not None:
                await asyncio.to_thread(require_sound, path)
            await prepare(self.settings.database_url)
            await self.database.open()
            self.ids.raise_floor(await self.database.read(_highest_id))
            await self.watch.note()
            await self.directory.refresh()
            await self.knowledge.refresh()
            await self.bus.start()
            await self.hub.start()
            self.feed.start()
            self.backlog.start()
            await self.leases.start(self.ownership)
            self.presence.start()
            self.router.start()
            self.watch.start()
            self._warming = asyncio.get_running_loop().create_task(self.http_side())
        except BaseException:
            await self._release()
            raise

    def refuse_new_work(self) -> None:
        """Answer webhooks with 503 from now on, and readiness with no; tell open streams to go."""
        self._edge.stopping = True
        if self._http is not None:
            self._closing = asyncio.get_running_loop().create_task(self._http.close_streams())

    async def stop(self, seconds: float) -> None:
        """Finish what is under way within ``seconds``, then let go of everything. What isn't done stays stored."""
        self._edge.stopping = True
        if self._warming is not None:
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._http is not None:
            await self._http.close_streams()
            await self._http.stop()
        points.reach("while_stopping")
        await self.watch.stop()
        # Others take over what this process had; what is under way is finished first.
        await self.leases.stop(seconds)
        await self.ownership.stop()
        await self.backlog.stop()
        await self.feed.stop()
        await self.lanes.stop(seconds / 2)
        await self.delivery.stop(seconds / 2)
        points.reach("after_drain")
        await self.router.stop()
        await self.presence.stop()
        await self.hub.stop()
        await self.orders.close()
        await self._release()

    async def _release(self) -> None:
        await self.bus.stop()
        await self.client.close()
        await self.database.close()
        if self._lock is not None:
            self._lock.release()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one request or socket."""
        if scope["type"] == "http" and scope["path"].startswith(WEBHOOK_PREFIX):
            await self._edge(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] in HEALTH_PATHS:
            await self._health(scope, receive, send)
            return
        http = await self.http_side()
        if http.sandbox is not None and scope["type"] == "http":
            if scope["path"].startswith("/sandbox/"):
                # As a mount does it: the application below sees the path behind its own.
                await http.sandbox({**scope, "root_path": "/sandbox"}, receive, send)
                return
            if scope["path"] in ("/", "/sandbox"):
                await RedirectResponse("/sandbox/")(scope, receive, send)
                return
        await http.api(scope, receive, send)
        if scope["type"] == "http" and scope["method"] not in _READING:
            # Whatever was changed is in service here at once, and the other processes hear of it.
            self.watch.look()

    async def http_side(self) -> HttpSide:
        """Return the API and the sockets, imported and built when first needed (``start`` begins it at once)."""
        if self._http is None:
            async with self._http_lock:
                if self._http is None:
                    make = await asyncio.to_thread(_import_http_side)
                    self._http = make(self)
        return self._http

    async def readiness(self) -> Mapping[str, str]:
        """Return what stands in the way of taking traffic; empty when nothing does."""
        problems: dict[str, str] = {}
        if self._edge.stopping:
            problems["server"] = "stopping"
        if not self.leases.is_member():
            problems["leases"] = "not renewed"
        if self.database.is_damaged:
            problems["database"] = "damaged"
            return problems
        # A backlog from before the start is no problem: what comes in is stored, acked and taken in its turn.
        try:
            require_usable(await self.database.read(read_schema))
        except UnavailableError:
            problems["database"] = "unreachable"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the schema, this process isn't ready
            problems["migrations"] = str(error)
        return problems

    def degraded(self) -> Mapping[str, str]:
        """Return what is slower than it should be without being in the way."""
        trouble = self.bus.trouble()
        return {} if trouble is None else {"bus": trouble}

    def _committed(self, commit: TurnCommit) -> None:
        if commit.outbox:
            self.feed.committed(commit.outbox)
        if commit.events or commit.also:
            self.events_stored()
        if commit.escalation is not None or commit.also:
            self._queue_changed()

    def _poll_seconds(self) -> float:
        return poll_seconds(self.bus)

    def events_stored(self) -> None:
        """Hear that this process has stored console events."""
        self.hub.notify()
        self.bus.publish(EVENTS)

    def _queue_changed(self) -> None:
        self.router.kick()
        self.bus.publish(QUEUE)

    def _conversation_changed(self, conversation_id: int) -> None:
        self._forget(conversation_id)
        self.bus.publish(CONVERSATIONS, str(conversation_id))

    def _conversations_changed_elsewhere(self, payload: str) -> None:
        # Only to spare a turn that would be decided twice: a commit is refused when the conversation has changed. So
        # "any of them", after a loss of hints, needs nothing.
        for word in payload.split(",") if payload else ():
            self._forget(int(word))

    def _forget(self, conversation_id: int) -> None:
        self.lanes.forget(conversation_id)
        self.outcomes.conversation_changed(conversation_id)

    async def replayed(self, outbox_id: int) -> None:
        """Take up a dead letter that was just put back on its way."""
        log.info("delivery.replayed", outbox_id=outbox_id)
        await self.feed.look()

    async def _recheck_sessions(self) -> None:
        if self._http is not None:
            await self._http.recheck_sessions()

    def _age_seconds(self, since_ms: int | None) -> float:
        return 0.0 if since_ms is None else max(0, self.clock.now_ms() - since_ms) / 1000


def _import_http_side() -> Callable[[Application], HttpSide]:
    from app.wiring_http import HttpSide

    return HttpSide


def _highest_id(connection: Connection) -> int:
    highest = [
        connection.execute(select(func.max(table.c.id))).scalar() or 0
        for table in (inbox, messages, outbox, decisions, escalations)
    ]
    return max(highest)
