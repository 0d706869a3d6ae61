"""A marketplace whose webhooks go to a recorder instead of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from app.channels import signing
from app.channels.registry import Registry
from app.domain.delivery import Account, RawDelivery, WireRequest, WireResponse
from app.sandbox.accounts import SANDBOX_SEATS, AccountSpec, sandbox_accounts
from app.sandbox.buyers import BUYERS
from app.sandbox.catalogue import read_shops
from app.sandbox.chats import PageSession
from app.sandbox.market import Market
from tests.fakes import FakeClock, FakeIds

BASE_URL = "http://127.0.0.1:8000"
OUTDOOR = "sandbox-qinghezhan"


class Recorder:
    """Answers 200, or what `answers` holds first; an exception there is raised."""

    def __init__(self) -> None:
        self.requests: list[WireRequest] = []
        self.answers: list[int | Exception] = []
        self.retry_after: str | None = None

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        headers = {} if self.retry_after is None or answer < 400 else {"retry-after": self.retry_after}
        return WireResponse(status=answer, headers=headers, body=b"{}")

    def bodies(self, kind: str = "message.created") -> list[dict[str, Any]]:
        """The data of the posted events of one type, in order."""
        documents = [orjson.loads(request.body) for request in self.requests]
        return [document["data"] for document in documents if document["type"] == kind]


@dataclass
class World:
    """The market, its accounts, and one page session playing the first buyer."""

    market: Market
    accounts: dict[str, Account]
    recorder: Recorder
    clock: FakeClock
    session: PageSession = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.market.sessions.begin()
        self.buyer = BUYERS[0]

    def say(self, text: str, **named: Any):
        return self.market.say(
            self.session,
            account_id=OUTDOOR,
            buyer=self.buyer,
            tier="gold",
            content={"type": "text", "text": text},
            **named,
        )

    async def reply(
        self,
        text: str,
        *,
        answers: Sequence[str],
        key: str = "msg_1",
        message_id: str = "9001",
        body: bytes = b"",
    ):
        """What our server would post for a reply to some messages."""
        chat = self.session.chats[OUTDOOR, self.buyer.key]
        data = {
            "message_id": message_id,
            "conversation_id": chat.id,
            "in_reply_to": answers[-1],
            "answers": list(answers),
            "author": "bot",
            "content": {"type": "text", "text": text},
        }
        body = body or orjson.dumps({"type": "message.send", "data": data})
        seconds = self.clock.now_ms() // 1000
        headers = {
            "webhook-id": key,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signing.sign(self.accounts[OUTDOOR].secrets, key, seconds, body),
        }
        return await self.market.take_reply(OUTDOOR, headers, body)

    def shown(self) -> list[tuple[str, str]]:
        chat = self.session.chats[OUTDOOR, self.buyer.key]
        return [(message.author, message.content["text"]) for message in chat.messages]


def account_of(spec: AccountSpec) -> Account:
    settings = {name: value for name, value in spec.settings.items() if isinstance(value, str)}
    secrets = Registry().get(spec.channel).open_secrets(list(spec.settings["secret"]))
    return Account(id=spec.id, channel=spec.channel, shop_id=spec.shop_id, secrets=secrets, settings=settings)


def events_of(request: WireRequest, account: Account, now_ms: int):
    """What the shop's server reads from a webhook, its signature checked."""
    adapter = Registry().get(account.channel)
    delivery = RawDelivery(request.headers, request.body)
    adapter.verify(delivery, account, now_ms=now_ms)
    return adapter.parse(delivery)


@pytest.fixture
def world(clock: FakeClock, ids: FakeIds) -> World:
    accounts = {spec.id: account_of(spec) for spec in sandbox_accounts(BASE_URL, ids=ids)}
    recorder = Recorder()
    market = Market(
        base_url=BASE_URL,
        find_account=accounts.get,
        seats=SANDBOX_SEATS,
        shops=read_shops(),
        client=recorder,
        clock=clock,
        ids=ids,
    )
    return World(market, accounts, recorder, clock)
