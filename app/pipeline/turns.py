"""One turn: from the events at a lane's head to what is committed. The order of things, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.core.ids import Ids
from app.core.metrics import Metrics
from app.core.tracing import Trail, traced
from app.core.values import changed
from app.domain.conversations import Conversation, ConversationState, Memory, Priority
from app.domain.delivery import Account
from app.domain.knowledge import Snapshot
from app.domain.matching import Thresholds, Understanding
from app.domain.messages import Content, ContentType, EventKind
from app.domain.orders import OrderView
from app.domain.shops import ShopMode, ShopPolicy
from app.domain.turns import Decision, DecisionKind, Escalation, NeedOrders, Turn, Utterance
from app.intents.fusion import shipped_thresholds
from app.intents.matcher import Matcher, Scope
from app.pipeline.commit import StaleTurnError
from app.pipeline.inbox import InboxItem
from app.pipeline.platform_events import PlatformEvents
from app.pipeline.records import ConversationRecord, load_record
from app.pipeline.turn_writer import TurnWriter
from app.pipeline.writing import buyer_key
from app.replies.decide import ReplyPolicy
from app.storage.database import Database

__all__ = ["TurnProcessor"]

log = structlog.get_logger(__name__)
trail = Trail(__name__)


class Directory(Protocol):
    """Where accounts and shops are found."""

    def account(self, account_id: str) -> Account | None: ...

    def shop(self, shop_id: str) -> ShopPolicy: ...


class Knowledge(Protocol):
    """The knowledge in service; both belong to one version."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def matcher(self) -> Matcher: ...


class Orders(Protocol):
    """Order context."""

    async def look_up(self, account: Account, buyer_id: str, *, need: NeedOrders) -> OrderView: ...


class TurnProcessor:
    """Does turns for the lanes."""

    def __init__(
        self,
        *,
        database: Database,
        directory: Directory,
        knowledge: Callable[[], Knowledge],
        policy: ReplyPolicy,
        orders: Orders,
        writer: TurnWriter,
        platform_events: PlatformEvents,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
    ) -> None:
        """``knowledge`` returns what is in service now; a turn uses one answer of it throughout."""
        self._database = database
        self._directory = directory
        self._knowledge = knowledge
        self._policy = policy
        self._orders = orders
        self._platform_events = platform_events
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._writer = writer
        self._shipped = shipped_thresholds()
        self._decided = {kind: metrics.decisions.labels(kind.value) for kind in DecisionKind}

    def is_complete(self, item: InboxItem) -> bool:
        """Whether a message can stand alone: a complete question can, a greeting, fragment, card or picture can't."""
        content = item.event.content
        if item.event.kind is not EventKind.MESSAGE or content is None:
            return True
        if content.type is not ContentType.TEXT or not content.text.strip():
            return False
        understanding = self._understanding(item, content.text, self._knowledge().matcher)
        return understanding.complete and not understanding.social

    def burst_times(self, item: InboxItem, record: ConversationRecord | None) -> tuple[float, float]:
        """Return the shop's burst times; a human reading along gets every message at once."""
        if record is not None and (
            record.conversation.bot_paused
            or record.conversation.state in (ConversationState.HUMAN, ConversationState.QUEUED)
        ):
            return 0.0, 0.0
        shop = self._directory.shop(item.shop_id)
        if shop.mode is ShopMode.OFF:
            return 0.0, 0.0
        return shop.burst_quiet, shop.burst_max

    async def load(self, key: tuple[str, str]) -> ConversationRecord | None:
        """Read a conversation."""
        return await self._database.read(lambda connection: load_record(connection, *key))

    async def process(
        self, record: ConversationRecord | None, items: Sequence[InboxItem]
    ) -> ConversationRecord | None:
        """Do one turn and commit it; return the conversation afterwards.

        Raises:
            StaleTurnError: the conversation changed hands meanwhile; nothing was written.
            FencedError: the partition has another owner.
            UnavailableError: the database didn't take it; it may be tried again.
        """
        head = items[0]
        if head.event.kind is EventKind.MESSAGE:
            return await self._messages(record, items)
        after = await self._platform_events.process(record, head, escalate=self.escalate)
        if trail.is_followed:
            trail.note("event.done", (head.trace_id,), inbox_id=head.id, kind=head.event.kind.value)
        return after

    async def park(
        self, record: ConversationRecord | None, items: Sequence[InboxItem], error: Exception
    ) -> ConversationRecord | None:
        """Set events aside that keep failing, keep the buyer's words where a human sees them, and escalate."""
        head = items[0]
        reason = f"failed:{type(error).__name__}"
        now_ms = self._clock.now_ms()
        if head.event.kind is not EventKind.MESSAGE or head.event.buyer is None:
            await self._platform_events.finish(head, "parked", reason)
            return record
        try:
            return await self._hand_over(record, items, reason, now_ms)
        except (StaleTurnError, UnavailableError):
            raise
        except Exception as problem:
            # What can't even be handed over must not hold up what follows it.
            ids = traced([item.trace_id for item in items])
            log.error("turn.not_handed_over", **ids, inbox_id=head.id, exc_info=problem)
            for item in items:
                await self._platform_events.finish(item, "parked", reason)
            return record

    async def _hand_over(
        self, record: ConversationRecord | None, items: Sequence[InboxItem], reason: str, now_ms: int
    ) -> ConversationRecord:
        record = self._opened(record, items[0], now_ms)
        decision = Decision(
            kind=DecisionKind.ESCALATE,
            memory=record.memory,
            escalation=Escalation(group="aftersale", rule="E7", reason="poison", priority=Priority.HIGH),
            why=("parked", reason),
        )
        utterances = [self._utterance(item, self._ids.next(), None) for item in items]
        turn = self._turn(record, utterances, now_ms, self._knowledge().snapshot)
        orders = await self._orders_for_packet(record, turn, decision)
        return await self._writer.write(
            record, items, turn, decision, orders=orders, micros=0, inbox_state="parked", inbox_reason=reason
        )

    async def escalate(
        self, record: ConversationRecord, escalation: Escalation, why: str
    ) -> ConversationRecord:
        """Hand a conversation to a human for a reason that is no message (a reply that can't be delivered)."""
        now_ms = self._clock.now_ms()
        decision = Decision(
            kind=DecisionKind.ESCALATE, memory=record.memory, escalation=escalation, why=(why,),
            stage=record.conversation.stage,
        )  # fmt: skip
        turn = self._turn(record, (), now_ms, self._knowledge().snapshot)
        orders = await self._orders_for_packet(record, turn, decision)
        return await self._writer.write(record, (), turn, decision, orders=orders, micros=0)

    async def _messages(
        self, record: ConversationRecord | None, items: Sequence[InboxItem]
    ) -> ConversationRecord:
        now_ms = self._clock.now_ms()
        record = self._opened(record, items[0], now_ms)
        known = self._knowledge()
        is_off = self._directory.shop(record.conversation.shop_id).mode is ShopMode.OFF
        started = self._clock.monotonic()
        utterances: list[Utterance] = []
        for item in items:
            content = item.event.content or Content()
            understanding = None
            if content.type is ContentType.TEXT and not is_off:
                understanding = self._understanding(item, content.text, known.matcher)
            utterances.append(self._utterance(item, self._ids.next(), understanding))
        turn = self._turn(record, utterances, now_ms, known.snapshot)
        decision = self._policy.decide(turn)
        micros = int((self._clock.monotonic() - started) * 1e6)
        if isinstance(decision, NeedOrders):
            turn = changed(turn, orders=await self._look_up(record, decision))
            started = self._clock.monotonic()
            decision = self._policy.decide(turn)
            micros += int((self._clock.monotonic() - started) * 1e6)
            if isinstance(decision, NeedOrders):
                raise TypeError("the reply policy asked for orders it already has")
        self._metrics.decide_seconds.observe(micros / 1e6)
        self._decided[decision.kind].inc()
        orders = await self._orders_for_packet(record, turn, decision)
        after = await self._writer.write(record, items, turn, decision, orders=orders, micros=micros)
        return after

    def _understanding(self, item: InboxItem, text: str, matcher: Matcher) -> Understanding:
        # Understood once on arrival (to see whether it can stand alone), used again when the turn is due.
        # Knowledge published in between makes it understood anew: a turn never sees two versions.
        known = item.understood
        if known is not None and known[0] == matcher.version:
            return known[1]
        shop = self._directory.shop(item.shop_id)
        scope = Scope(
            shop_id=item.shop_id,
            channel=item.channel,
            now_ms=self._clock.now_ms(),
            thresholds=_thresholds(shop, self._shipped),
        )
        understanding = matcher.understand(text, scope=scope)
        item.understood = (matcher.version, understanding)
        return understanding

    def _utterance(self, item: InboxItem, message_id: int, understanding: Understanding | None) -> Utterance:
        event = item.event
        return Utterance(
            message_id=message_id,
            external_id=event.message_id or "",
            content=event.content or Content(),
            received_at_ms=item.received_at_ms,
            understanding=understanding,
            order_id=event.order_id,
            product_id=event.product_id,
        )

    def _turn(
        self, record: ConversationRecord, utterances: Sequence[Utterance], now_ms: int, snapshot: Snapshot
    ) -> Turn:
        return Turn(
            utterances=tuple(utterances),
            conversation=record.conversation,
            memory=record.memory,
            shop=self._directory.shop(record.conversation.shop_id),
            snapshot=snapshot,
            now_ms=now_ms,
            has_open_escalation=record.conversation.state is ConversationState.QUEUED,
        )

    def _opened(self, record: ConversationRecord | None, item: InboxItem, now_ms: int) -> ConversationRecord:
        """Return the conversation ready for a message: made when new, a new session begun where one is due."""
        buyer = item.event.buyer
        if record is None:
            buyer_id = buyer.id if buyer is not None else ""
            return ConversationRecord(
                conversation=Conversation(
                    id=self._ids.next(),
                    account_id=item.account_id,
                    external_id=item.lane_key,
                    shop_id=item.shop_id,
                    channel=item.channel,
                    state=ConversationState.BOT,
                    version=1,
                    buyer_external_id=buyer_id,
                    buyer_nickname=buyer.nickname if buyer is not None else None,
                    buyer_tier=buyer.tier if buyer is not None else None,
                    memory=Memory(session=1),
                ),
                buyer_id=buyer_key(item.account_id, buyer_id),
                partition=item.partition,
                created_at_ms=now_ms,
            )
        conversation = record.conversation
        changes: dict[str, Any] = {}
        if conversation.state is ConversationState.CLOSED:
            changes |= {
                "state": ConversationState.BOT, "version": conversation.version + 1, "agent_id": None,
                "group_id": None, "priority": Priority.NORMAL, "stage": "welcome",
                "memory": Memory(session=conversation.memory.session + 1),
            }  # fmt: skip
        elif conversation.state is ConversationState.BOT and conversation.last_message_at_ms is not None:
            gap_ms = self._directory.shop(conversation.shop_id).session_gap_minutes * 60_000
            if item.received_at_ms - conversation.last_message_at_ms > gap_ms:
                changes |= {"stage": "welcome", "memory": Memory(session=conversation.memory.session + 1)}
        named: dict[str, Any] = {}
        if buyer is not None:
            if buyer.nickname is not None and buyer.nickname != conversation.buyer_nickname:
                named["buyer_nickname"] = buyer.nickname
            if buyer.tier is not None and buyer.tier != conversation.buyer_tier:
                named["buyer_tier"] = buyer.tier
        if not changes and not named:
            return record
        return changed(record.with_conversation(**changes, **named), buyer_changed=bool(named))

    async def _orders_for_packet(
        self, record: ConversationRecord, turn: Turn, decision: Decision
    ) -> OrderView | None:
        """Return the orders that a human sees beside an escalation, looked up now if the decision needed none."""
        if decision.escalation is None or turn.orders is not None:
            return turn.orders
        return await self._look_up(record, NeedOrders(order_id=decision.order_id, trusted=True))

    async def _look_up(self, record: ConversationRecord, need: NeedOrders) -> OrderView:
        account = self._directory.account(record.conversation.account_id)
        if account is None:
            raise LookupError("the account was removed")
        return await self._orders.look_up(account, record.conversation.buyer_external_id, need=need)


def _thresholds(shop: ShopPolicy, shipped: Thresholds) -> Thresholds | None:
    if shop.answer_at is None and shop.ask_at is None:
        return None
    answer_at = shipped.answer_at if shop.answer_at is None else shop.answer_at
    ask_at = min(shipped.ask_at, answer_at) if shop.ask_at is None else shop.ask_at
    return Thresholds(answer_at=answer_at, ask_at=ask_at)
