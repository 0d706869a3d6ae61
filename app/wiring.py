"""Builds every object once, by hand, and starts and stops them in order. Nothing else creates services."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, func, select
from starlette.applications import Starlette
from starlette.responses import RedirectResponse

from app.api.health import HEALTH_PATHS, health_routes
from app.api.webhooks import WEBHOOK_PREFIX, WebhookEdge
from app.channels.addresses import AddressPolicy
from app.channels.http import HttpClient
from app.channels.registry import Registry
from app.core.clock import Clock, SystemClock
from app.core.crypto import SecretBox
from app.core.errors import UnavailableError
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.delivery.outbox import OutboxItem, open_items
from app.delivery.service import DeliveryService
from app.desk.hub import EventHub
from app.desk.presence import PresenceService
from app.desk.router import Router
from app.desk.work import Desk
from app.knowledge.live import LiveKnowledge
from app.knowledge.texts import load_text_book
from app.orders.service import OrderService
from app.pipeline.backlog import Backlog
from app.pipeline.commit import TurnCommit
from app.pipeline.inbox import Inbox
from app.pipeline.lanes import Lanes
from app.pipeline.outcomes import DeliveryOutcomes
from app.pipeline.partitions import PARTITIONS, take_all
from app.pipeline.platform_events import PlatformEvents
from app.pipeline.turn_writer import TurnWriter
from app.pipeline.turns import TurnProcessor
from app.pipeline.watch import RevisionWatch
from app.replies.decide import ReplyPolicy
from app.replies.templates import TemplateSet
from app.settings import Settings, load_secret_key
from app.shops.directory import Directory
from app.storage.database import Database
from app.storage.filelock import FileLock
from app.storage.schema import prepare, read_schema, require_current
from app.storage.tables import decisions, escalations, inbox, messages, outbox
from app.storage.urls import sqlite_path

if TYPE_CHECKING:
    from app.wiring_http import HttpSide

__all__ = ["Application"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]


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
        self.has_failed = False
        self.on_fatal: Callable[[], None] = lambda: None
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
        self._epochs: dict[int, int] = {}
        self._lock: FileLock | None = None
        self._build_services()
        self._edge = WebhookEdge(self.inbox, clock=clock, metrics=metrics, max_body=settings.max_body)
        token = settings.metrics_token
        self._health: Any = Starlette(
            routes=health_routes(
                readiness=self.readiness,
                metrics=metrics,
                metrics_token=token.get_secret_value() if token is not None else None,
            )
        )
        self._http: HttpSide | None = None
        self._http_lock = asyncio.Lock()
        self._warming: asyncio.Task[HttpSide] | None = None
        self._closing: asyncio.Task[None] | None = None

    def _build_services(self) -> None:
        clock, ids, database = self.clock, self.ids, self.database
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
        self.hub = EventHub(database, clock=clock)
        self.desk = Desk(
            database,
            clock=clock,
            ids=ids,
            on_conversation_changed=lambda conversation_id: self.lanes.forget(conversation_id),
            on_enqueued=self._enqueued,
            on_events=self.hub.notify,
            on_queue_changed=lambda: self.router.kick(),
        )
        self.presence = PresenceService(self.desk, policy_of=self.directory.shop)
        self.router = Router(self.desk, presence=self.presence, policy_of=self.directory.shop)
        writer = TurnWriter(
            database=database, clock=clock, ids=ids, epochs=self._epochs, on_committed=self._committed
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
        self.lanes = Lanes(worker=self.turns, clock=clock, metrics=self.metrics, on_fenced=self._fenced)
        outcomes = DeliveryOutcomes(
            desk=self.desk, lanes=self.lanes, policy_of=self.directory.shop, on_events=self.hub.notify
        )
        self.delivery = DeliveryService(
            database=database,
            directory=self.directory,
            client=self.client,
            clock=clock,
            ids=ids,
            metrics=self.metrics,
            hooks=outcomes,
        )
        self.backlog = Backlog(database=database, directory=self.directory, lanes=self.lanes, clock=clock)
        self.inbox = Inbox(
            database=database,
            directory=self.directory,
            clock=clock,
            ids=ids,
            is_cached=self.lanes.is_cached,
            on_stored=self.backlog.stored,
        )
        self.watch = RevisionWatch(
            database=database,
            clock=clock,
            refreshes={
                "accounts": self.directory.refresh,
                "shops": self.directory.refresh,
                "knowledge": self.knowledge.refresh,
                "outbox": self._enqueue_open,
                "users": self._recheck_sessions,
            },
        )
        self.metrics.open_inbox.set_function(lambda: self.lanes.waiting)
        self.metrics.open_outbox.set_function(lambda: self.delivery.waiting)

    async def start(self) -> None:
        """Take the database and everything it holds; ready to serve afterwards.

        Raises:
            ConfigurationError: something is set up wrongly, or another server has the embedded database.
        """
        path = sqlite_path(self.database.url)
        if path is not None:
            self._lock = FileLock(path)
            self._lock.acquire()
        try:
            await prepare(self.settings.database_url)
            await self.database.open()
            owner = f"{socket.gethostname()}:{os.getpid()}"
            now_ms = self.clock.now_ms()
            self._epochs.update(
                await self.database.write(lambda connection: take_all(connection, owner, now_ms=now_ms))
            )
            self.ids.raise_floor(await self.database.read(_highest_id))
            await self.directory.refresh()
            await self.knowledge.refresh()
            await self.hub.start()
            self.presence.start()
            self.router.start()
            # Replies from before the start first: a message of the backlog must not be answered ahead of them.
            await self._enqueue_open()
            self.backlog.start()
            await self.watch.start()
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
        await self.watch.stop()
        await self.backlog.stop()
        await self.lanes.stop(seconds / 2)
        await self.delivery.stop(seconds / 2)
        await self.router.stop()
        await self.presence.stop()
        await self.hub.stop()
        await self.orders.close()
        await self._release()

    async def _release(self) -> None:
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
        if self.has_failed:
            problems["partitions"] = "another process owns them"
        # A backlog from before the start is no problem: what comes in is stored, acked and taken in its turn.
        try:
            require_current(await self.database.read(read_schema))
        except UnavailableError:
            problems["database"] = "unreachable"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the schema, this process isn't ready
            problems["migrations"] = str(error)
        return problems

    def _committed(self, commit: TurnCommit) -> None:
        if commit.outbox:
            self.delivery.enqueued(commit.outbox)
        if commit.events or commit.also:
            self.hub.notify()
        if commit.escalation is not None or commit.also:
            self.router.kick()

    def _fenced(self) -> None:
        """Another process took the partitions: this one must not go on, or two would answer the same buyers."""
        if not self.has_failed:
            self.has_failed = True
            log.critical("server.fenced", advice="another huoji serve runs on this database; this one stops")
            self.on_fatal()

    def _enqueued(self, items: Sequence[OutboxItem]) -> None:
        self.delivery.enqueued(items)

    async def replayed(self, outbox_id: int) -> None:
        """Take up a dead letter that was just put back on its way."""
        log.info("delivery.replayed", outbox_id=outbox_id)
        await self._enqueue_open()

    async def _recheck_sessions(self) -> None:
        if self._http is not None:
            await self._http.recheck_sessions()

    async def _enqueue_open(self) -> None:
        self.delivery.enqueued(
            await self.database.read(lambda connection: open_items(connection, range(PARTITIONS)))
        )


def _import_http_side() -> Callable[[Application], HttpSide]:
    from app.wiring_http import HttpSide

    return HttpSide


def _highest_id(connection: Connection) -> int:
    highest = [
        connection.execute(select(func.max(table.c.id))).scalar() or 0
        for table in (inbox, messages, outbox, decisions, escalations)
    ]
    return max(highest)
