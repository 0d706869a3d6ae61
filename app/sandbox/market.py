"""The marketplace itself: what buyers do becomes webhooks; replies and order queries of shops' servers are answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

import orjson
import structlog

from app.channels import signing
from app.channels.http import Sender
from app.core.clock import Clock, rfc3339
from app.core.errors import NotFoundError, RateLimitedError, SignatureError
from app.core.ids import Ids
from app.domain.delivery import Account
from app.sandbox.buyers import TIERS, Buyer, OrderKind
from app.sandbox.catalogue import Shop
from app.sandbox.chats import Chat, ChatMessage, Image, PageSession, Push, Troubles
from app.sandbox.order_service import Answer, answer_orders, find_order, refusal
from app.sandbox.orders import Document, make_order
from app.sandbox.posting import Poster
from app.sandbox.sessions import Sessions, buyer_id

__all__ = ["Market"]

log = structlog.get_logger(__name__)

MAX_MESSAGES = 500
"""Messages of one chat; a visitor who wants more begins anew."""

MAX_IMAGES = 20
"""Pictures of one page session, 2 MiB each at most."""

TWICE_AFTER_SECONDS = 0.06
SWAP_SECONDS = 3.0
"""How long a message is kept back for another one to overtake it."""

SLOW_SECONDS = 2.0
_SEEN = 20_000

FindAccount = Callable[[str], Account | None]


class Market:
    """One marketplace with the demo shops. Everything is gone when it stops; ``sessions`` holds the pages'."""

    def __init__(
        self,
        *,
        base_url: str,
        find_account: FindAccount,
        seats: Mapping[str, str],
        shops: Sequence[Shop],
        client: Sender,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """Take what it needs.

        Args:
            base_url: this server, as it is reached from itself.
            find_account: an account by its id, with its secrets opened; asked each time, so that rotation works.
            seats: account id to shop id.
            shops: the shops with their products.
            client: sends the webhooks; it must be allowed to reach ``base_url``.
            clock: the time.
            ids: ids and secrets.
        """
        self.base_url = base_url.rstrip("/")
        self._find_account = find_account
        by_id = {shop.id: shop for shop in shops}
        self._shops = {account_id: by_id[shop_id] for account_id, shop_id in seats.items()}
        self._poster = Poster(base_url, client=client, clock=clock)
        self._clock = clock
        self.sessions = Sessions(self._shops, clock=clock, ids=ids)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life ---

    def close_streams(self) -> None:
        """Tell every page that listens to go, so that the server can end its connections."""
        self.sessions.close_streams()

    async def stop(self) -> None:
        """End what is under way; nothing of it is kept."""
        self.close_streams()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the page ---

    @property
    def shops(self) -> Mapping[str, Shop]:
        """The shops by account id."""
        return self._shops

    def is_open(self, account_id: str) -> bool:
        """Whether the account exists and takes webhooks."""
        account = self._find_account(account_id)
        return account is not None and bool(account.secrets)

    def orders(self, session: PageSession, account_id: str, buyer: Buyer) -> Sequence[Document]:
        """Return the orders of a session's buyer at a shop, newest first."""
        return self.sessions.orders(account_id, buyer_id(buyer, session))

    def set_troubles(self, session: PageSession, troubles: Troubles) -> None:
        """Switch the marketplace's mischief on or off for one page."""
        session.troubles = troubles
        if not troubles.swapped:
            for chat in session.chats.values():
                _release(chat)

    def add_image(self, session: PageSession, media_type: str, data: bytes) -> str:
        """Keep a picture and return its address.

        Raises:
            RateLimitedError: this session has sent too many.
        """
        if len(session.images) >= MAX_IMAGES:
            raise RateLimitedError(
                f"no more than {MAX_IMAGES} pictures; clear and begin anew", code="sandbox_images_full"
            )
        name = f"{session.next_number()}"
        session.images[name] = Image(media_type=media_type, data=data)
        return f"{self.base_url}/sandbox/images/{session.id}/{name}"

    def place_order(self, session: PageSession, account_id: str, buyer: Buyer) -> Document:
        """Place an unpaid order for the next product, and report it as a marketplace does."""
        shop = self._shops[account_id]
        name = buyer_id(buyer, session)
        orders = self.sessions.orders(account_id, name)
        order = make_order(
            shop,
            buyer,
            OrderKind.PENDING,
            shop.products[len(orders) % len(shop.products)],
            buyer_id=name,
            now_ms=self._clock.now_ms(),
            seed=f"{account_id}/{buyer.key}/new/{session.next_number()}",
            taken={known["order_id"] for known in orders},
        )
        orders.insert(0, order)
        data: dict[str, object] = {"buyer": {"id": name}, "order": order}
        self._report(account_id, f"order-{session.tag}-{order['order_id']}", "order.updated", data)
        return order

    def say(
        self,
        session: PageSession,
        *,
        account_id: str,
        buyer: Buyer,
        tier: str,
        content: Mapping[str, Any],
        order_id: str | None = None,
        product_id: str | None = None,
        client_id: str | None = None,
    ) -> ChatMessage:
        """Let a buyer say something; it is posted to the shop's server at once, or as the troubles have it.

        The same ``client_id`` again (the page didn't hear that it went well) changes nothing.

        Raises:
            NotFoundError: the order isn't this buyer's.
            RateLimitedError: the chat is full.
        """
        if (
            order_id is not None
            and find_order(self.sessions, account_id, buyer_id(buyer, session), order_id) is None
        ):
            raise NotFoundError("this buyer has no such order", code="order_unknown")
        chat = self.sessions.chat(session, account_id, buyer)
        said = None if client_id is None else chat.find_said(client_id)
        if said is not None:
            return said
        if len(chat.messages) >= MAX_MESSAGES:
            raise RateLimitedError("this chat is full; clear and begin anew", code="sandbox_chat_full")
        number = session.next_number()
        message = ChatMessage(
            id=f"m-{session.tag}-{number}",
            author="buyer",
            content=content,
            at_ms=self._clock.now_ms(),
            state="sending",
            order_id=order_id,
            product_id=product_id,
            webhook_id=f"evt-{session.tag}-{number}",
            client_id=client_id,
            busy=True,
        )
        chat.messages.append(message)
        data = self._message_data(session, chat, buyer, tier, message)
        if session.troubles.swapped and chat.held is None:
            chat.held = asyncio.Event()
            message.state = "held"
            self._start(self._hold(session, chat, message, data, chat.held))
        else:
            # In this order: the new message takes the chat's turn before the one that was kept back.
            self._start(self._post_message(session, chat, message, data))
            _release(chat)
        self._changed(session, chat, message)
        return message

    def find_message(self, session: PageSession, message_id: str) -> tuple[Chat, ChatMessage]:
        """Return a message of a session and its chat.

        Raises:
            NotFoundError: there is no such message.
        """
        for chat in session.chats.values():
            message = chat.find(message_id)
            if message is not None:
                return chat, message
        raise NotFoundError("there is no such message", code="message_unknown")

    # --- what shops' servers ask ---

    def answer_orders(
        self, account_id: str, *, authorization: str, buyer_name: str, order_id: str | None
    ) -> Answer:
        """Answer the order service: one order (``order_id``), or a buyer's latest ones."""
        account = self._find_account(account_id)
        if account is None or account_id not in self._shops:
            return refusal(404, "account_unknown")
        return answer_orders(
            self.sessions, account, authorization=authorization, buyer_name=buyer_name, order_id=order_id
        )

    async def take_reply(self, account_id: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Take a shop's message as the marketplace does: verified, once, then shown and echoed.

        A chat that no page plays (a simulation's) is taken and forgotten.
        """
        account = self._find_account(account_id)
        if account is None or account_id not in self._shops:
            return refusal(404, "account_unknown")
        try:
            signing.verify(headers, body, account.secrets, now_ms=self._clock.now_ms())
        except SignatureError as error:
            return refusal(401, error.code)
        key = f"{account_id}/{signing.webhook_id(headers)}"
        if key in self._seen:
            return Answer(200, {})
        data = _read_reply(body)
        if data is None:
            return refusal(400, "message_invalid")
        found = self.sessions.find_chat(account_id, str(data.get("conversation_id")))
        if found is None:
            return Answer(200, {})
        session, chat = found
        if session.troubles.refuse_first and key not in session.refused:
            session.refused.add(key)
            return Answer(503, {"code": "sandbox_refused_once"}, {"retry-after": "1"})
        if session.troubles.slow:
            await self._clock.sleep(SLOW_SECONDS)
            if key in self._seen:
                return Answer(200, {})
        self._remember(key)
        self._show_reply(session, chat, account, data)
        return Answer(200, {})

    # --- inside ---

    def _show_reply(
        self, session: PageSession, chat: Chat, account: Account, data: Mapping[str, Any]
    ) -> None:
        now_ms = self._clock.now_ms()
        answers = tuple(str(one) for one in cast("list[Any]", data.get("answers") or []))
        asked = chat.find(answers[-1]) if answers else None
        message = ChatMessage(
            id=str(data["message_id"]),
            author=str(data.get("author") or "bot"),
            content=cast("Mapping[str, Any]", data["content"]),
            at_ms=now_ms,
            state="received",
            answers=answers,
            after_ms=None if asked is None else now_ms - asked.at_ms,
        )
        chat.messages.append(message)
        self._changed(session, chat, message)
        echo: dict[str, object] = {
            "message_id": message.id,
            "conversation_id": chat.id,
            "content": dict(message.content),
            "sent_at": rfc3339(now_ms),
        }
        self._report(account.id, f"echo-{session.tag}-{message.id}", "message.echo", echo)

    def _message_data(
        self, session: PageSession, chat: Chat, buyer: Buyer, tier: str, message: ChatMessage
    ) -> dict[str, object]:
        named: dict[str, object] = {"id": buyer_id(buyer, session), "nickname": buyer.nickname}
        if tier in TIERS:
            named["tier"] = tier
        data: dict[str, object] = {
            "message_id": message.id,
            "conversation_id": chat.id,
            "buyer": named,
            "sent_at": rfc3339(message.at_ms),
            "content": dict(message.content),
        }
        if message.order_id is not None:
            data["order_id"] = message.order_id
        if message.product_id is not None:
            data["product_id"] = message.product_id
        return data

    async def _hold(
        self,
        session: PageSession,
        chat: Chat,
        message: ChatMessage,
        data: dict[str, object],
        released: asyncio.Event,
    ) -> None:
        """Keep a message back until another one has overtaken it, but not for long."""
        ends = [asyncio.ensure_future(released.wait()), asyncio.ensure_future(self._nap(SWAP_SECONDS))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if chat.held is released:
            chat.held = None
        await self._post_message(session, chat, message, data)

    async def _nap(self, seconds: float) -> bool:
        await self._clock.sleep(seconds)
        return True

    async def _post_message(
        self, session: PageSession, chat: Chat, message: ChatMessage, data: dict[str, object]
    ) -> None:
        account = self._find_account(chat.account_id)
        message.state = "sending"

        def on_push(push: Push) -> None:
            message.pushes.append(push)
            if push.is_taken and message.state != "pushed":
                message.state = "pushed"
            self._changed(session, chat, message)

        async def post() -> bool:
            if account is None:
                return False
            return await self._poster.post(
                account,
                message.webhook_id or message.id,
                "message.created",
                data,
                happened_ms=message.at_ms,
                on_push=on_push,
            )

        async with chat.turn:
            taken = await post()
            if taken and session.troubles.twice:
                await self._clock.sleep(TWICE_AFTER_SECONDS)
                await post()
        message.busy = False
        if not taken:
            message.state = "failed"
        self._changed(session, chat, message)

    def _report(self, account_id: str, webhook_id: str, kind: str, data: dict[str, object]) -> None:
        happened_ms = self._clock.now_ms()

        async def report() -> None:
            account = self._find_account(account_id)
            if account is not None:
                await self._poster.post(account, webhook_id, kind, data, happened_ms=happened_ms)

        self._start(report())

    def _changed(self, session: PageSession, chat: Chat, message: ChatMessage) -> None:
        session.events.append(
            "message",
            {"account_id": chat.account_id, "buyer": chat.buyer_key, "message": message.to_wire()},
        )

    def _remember(self, key: str) -> None:
        self._seen[key] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("sandbox.task_failed", exc_info=task.exception())


def _release(chat: Chat) -> None:
    if chat.held is not None:
        chat.held.set()
        chat.held = None


def _read_reply(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    fields = cast("dict[str, Any]", document)
    data = fields.get("data")
    if fields.get("type") != "message.send" or not isinstance(data, dict):
        return None
    reply = cast("dict[str, Any]", data)
    return reply if isinstance(reply.get("content"), dict) and reply.get("message_id") else None
