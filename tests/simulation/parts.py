"""What the processes need and the simulation is not about: accounts, a wire format, understanding and deciding."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

import orjson

from app.core.clock import Clock
from app.core.ids import SystemIds
from app.domain.conversations import ConversationState
from app.domain.delivery import (
    Account,
    OutboundMessage,
    Outcome,
    RawDelivery,
    Receipt,
    WireRequest,
    WireResponse,
)
from app.domain.knowledge import Snapshot
from app.domain.matching import Understanding
from app.domain.messages import BuyerRef, Content, EventKind, InboundEvent
from app.domain.orders import OrderLookup, OrderView
from app.domain.shops import ShopPolicy
from app.domain.turns import Decision, DecisionKind, Escalation, Reply, Turn

__all__ = ["ACCOUNTS", "Adapter", "Directory", "Ids", "Knowledge", "Orders", "Policy", "delivery_of"]

CHANNEL = "simulated"
ACCOUNTS = ("left", "right")

FRAGMENT = "…"
"""A message that begins so isn't complete: more may follow."""

HELP = "!"
"""A message that begins so makes the bot hand over to a human."""


class Ids(SystemIds):
    """Ids as the program makes them; tokens and fractions by the seed."""

    def __init__(self, clock: Clock, chance: Random) -> None:
        super().__init__(clock, node=0)
        self._chance = chance

    def token(self, size: int = 32) -> str:
        return self._chance.randbytes(size).hex()

    def fraction(self) -> float:
        return self._chance.random()


def delivery_of(name: str, conversation: str, text: str) -> RawDelivery:
    """Write a buyer's message as the marketplace posts it."""
    return RawDelivery({}, orjson.dumps([name, conversation, text]))


class Adapter:
    """The marketplace's wire format: JSON lists, unsigned."""

    def verify(self, delivery: RawDelivery, account: Account, *, now_ms: int) -> None:
        """Everything is genuine."""

    def parse(self, delivery: RawDelivery) -> tuple[InboundEvent, ...]:
        """Read what ``delivery_of`` wrote."""
        name, conversation, text = orjson.loads(delivery.body)
        return (
            InboundEvent(
                kind=EventKind.MESSAGE,
                dedupe_key=name,
                conversation_id=conversation,
                buyer=BuyerRef(id=f"buyer-{conversation}"),
                message_id=name,
                content=Content(text=text),
            ),
        )

    def build_request(self, message: OutboundMessage, account: Account, *, now_ms: int) -> WireRequest:
        """Write a reply; its key goes along."""
        body = orjson.dumps([message.key, message.conversation_external_id, message.content.text])
        return WireRequest(method="POST", url=f"simulated://{account.id}", headers={}, body=body)

    def read_response(self, response: WireResponse, *, now_ms: int) -> Receipt:
        """Read the marketplace's answer."""
        if response.status == 200:
            return Receipt(outcome=Outcome.DELIVERED, status=200)
        if response.status == 429:
            return Receipt(outcome=Outcome.RETRY, status=429, retry_after=1.0)
        return Receipt(outcome=Outcome.RETRY, status=response.status)


class Directory:
    """Two accounts of one shop."""

    def __init__(self, *, burst_quiet: float, burst_max: float) -> None:
        self._adapter = Adapter()
        self._accounts = {
            name: Account(id=name, channel=CHANNEL, shop_id="shop", secrets=(b"k" * 32,), settings={})
            for name in ACCOUNTS
        }
        self._shop = ShopPolicy(id="shop", name="shop", burst_quiet=burst_quiet, burst_max=burst_max)

    def account(self, account_id: str) -> Account | None:
        """Find an account."""
        return self._accounts.get(account_id)

    def adapter(self, account: Account) -> Any:
        """There is one."""
        return self._adapter

    def shop(self, shop_id: str) -> ShopPolicy:
        """There is one."""
        return self._shop

    async def pause(self, account_id: str, reason: str) -> None:
        """Never asked for by this marketplace."""
        raise AssertionError("nobody pauses an account")


class Knowledge:
    """Understands nothing but whether a message is complete."""

    snapshot = Snapshot(version=1, entries=())

    def __init__(self) -> None:
        self.matcher: Any = SimpleNamespace(version=1, understand=self._understand)

    def _understand(self, text: str, *, scope: object) -> Understanding:
        return Understanding(
            text=text, normalised=text, language="zh", questions=(), complete=not text.startswith(FRAGMENT)
        )


class Policy:
    """Answers every turn while the bot has the conversation; the answer names what it answers."""

    def decide(self, turn: Turn) -> Decision:
        """Decide as ``ReplyPolicy`` does, without looking at what is asked."""
        if turn.conversation.state is not ConversationState.BOT:
            return Decision(kind=DecisionKind.SILENT, memory=turn.memory)
        names = ",".join(one.external_id for one in turn.utterances)
        replies = (Reply(text=f"answer to {names}"),)
        if any(one.content.text.startswith(HELP) for one in turn.utterances):
            return Decision(
                kind=DecisionKind.ESCALATE, memory=turn.memory, replies=replies,
                escalation=Escalation(group="aftersale", rule="E7", reason="asked"),
            )  # fmt: skip
        return Decision(kind=DecisionKind.ANSWER, memory=turn.memory, replies=replies)


class Orders:
    """Nobody has any."""

    async def look_up(self, account: Account, buyer_id: str, *, need: object) -> OrderView:
        """Find none."""
        return OrderView(lookup=OrderLookup.NONE)

    async def apply_event(self, account_id: str, kind: EventKind, payload: Mapping[str, Any]) -> None:
        """Never called: no order events here."""
