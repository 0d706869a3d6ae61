"""The generic channel's adapter.

Source: the contracts page, section 2, "The generic channel, and relays"; docs/channels/generic.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import orjson

from app.channels import signing
from app.channels.addresses import PUBLIC_ONLY, AddressPolicy
from app.channels.base import Ack, Capabilities, SettingField, SettingValues
from app.channels.generic.payloads import read_events, write_message
from app.channels.responses import explain, parse_retry_after
from app.channels.settings import check_fields, check_secrets, check_urls, values_of
from app.core.errors import ChannelError, FieldProblem
from app.domain.delivery import (
    Account,
    OutboundMessage,
    Outcome,
    RawDelivery,
    Receipt,
    WireRequest,
    WireResponse,
)
from app.domain.messages import InboundEvent

__all__ = ["MAX_ORDERS", "MAX_SECRETS", "GenericAdapter"]

MAX_SECRETS = 3
"""Live secrets of one account. Source: the Standard Webhooks brief, "Key rotation"."""

MAX_ORDERS = 20
"""Orders of one buyer that are looked at."""

_SETTINGS = (
    SettingField(
        name="secret",
        title="签名密钥 whsec_…，轮换时最多三个",
        title_en="signing secret, whsec_…; up to three while rotating",
        is_secret=True,
        most=MAX_SECRETS,
    ),
    SettingField(name="callback_url", title="回复发往的地址", title_en="where replies are posted"),
    SettingField(name="orders_url", title="订单查询接口地址", title_en="where orders are read"),
    SettingField(
        name="orders_token",
        title="订单接口的访问令牌",
        title_en="bearer token of the order service",
        is_secret=True,
    ),
    SettingField(name="chat", title="relay：由服务商中转", title_en="relay: a partner passes messages on"),
)

_RETRY = frozenset({408, 425, 429})
_PAUSE = frozenset({401, 403, 410})
_JSON = "application/json"
_ACK = Ack(headers={"content-type": _JSON}, body=b"{}")


class GenericAdapter:
    """Standard Webhooks in and out, orders by a small REST service."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.settings: Sequence[SettingField] = _SETTINGS

    def check_settings(
        self, settings: SettingValues, *, policy: AddressPolicy = PUBLIC_ONLY
    ) -> list[FieldProblem]:
        problems = check_fields(settings, _SETTINGS)
        problems += check_secrets(values_of(settings, "secret"))
        problems += check_urls(settings, ("callback_url", "orders_url"), policy)
        for value in values_of(settings, "orders_token"):
            if not value or not value.isascii() or not value.isprintable():
                problems.append(
                    FieldProblem("orders_token", "is empty or has characters that no header can carry")
                )
        for value in values_of(settings, "chat"):
            if value != "relay":
                problems.append(FieldProblem("chat", f"{value!r} is not known", "relay, or leave it out"))
        return problems

    def open_secrets(self, secrets: Sequence[str]) -> tuple[bytes, ...]:
        return tuple(signing.open_secret(secret) for secret in secrets)

    def verify(self, delivery: RawDelivery, account: Account, *, now_ms: int) -> None:
        signing.verify(delivery.headers, delivery.body, account.secrets, now_ms=now_ms)

    def parse(self, delivery: RawDelivery) -> tuple[InboundEvent, ...]:
        headers = delivery.headers
        return read_events(delivery.body, headers.get("content-type", ""), signing.webhook_id(headers))

    def ack(self) -> Ack:
        return _ACK

    def handshake(self, delivery: RawDelivery, account: Account) -> Ack | None:
        return None

    def build_request(self, message: OutboundMessage, account: Account, *, now_ms: int) -> WireRequest:
        url = account.settings.get("callback_url")
        if not url:
            raise ChannelError(
                f"account {account.id} has no callback_url, so nothing can be sent", code="callback_missing"
            )
        if not account.secrets:
            raise ChannelError(f"account {account.id} has no secret to sign with", code="secret_missing")
        body = write_message(message)
        seconds = now_ms // 1000
        return WireRequest(
            method="POST",
            url=url,
            headers={
                "content-type": _JSON,
                "webhook-id": message.key,
                "webhook-timestamp": str(seconds),
                "webhook-signature": signing.sign(account.secrets, message.key, seconds, body),
            },
            body=body,
        )

    def read_response(self, response: WireResponse, *, now_ms: int) -> Receipt:
        status = response.status
        if 200 <= status < 300:
            return _delivered(status)
        if status in _PAUSE:
            outcome = Outcome.PAUSE_ACCOUNT
        elif status in _RETRY or status >= 500 or status < 400:
            outcome = Outcome.RETRY
        else:
            outcome = Outcome.FAILED
        return Receipt(
            outcome=outcome,
            status=status,
            error=explain(response),
            retry_after=parse_retry_after(response, now_ms=now_ms) if outcome is Outcome.RETRY else None,
        )

    def order_request(self, account: Account, order_id: str, buyer_id: str) -> WireRequest | None:
        return _get(account, f"/{quote(order_id, safe='', errors='replace')}", buyer_id)

    def orders_request(self, account: Account, buyer_id: str) -> WireRequest | None:
        return _get(account, "", buyer_id)

    def read_order(self, response: WireResponse) -> Mapping[str, Any] | None:
        if response.status == 404:
            return None
        return _read_object(response)

    def read_orders(self, response: WireResponse) -> tuple[Mapping[str, Any], ...]:
        if response.status == 404:
            return ()
        items = _read_object(response).get("items")
        if not isinstance(items, list):
            raise ChannelError("the order service answered without items", code="orders_invalid")
        documents = [
            cast("Mapping[str, Any]", item) for item in cast("list[Any]", items) if isinstance(item, dict)
        ]
        return tuple(documents[:MAX_ORDERS])


@lru_cache(maxsize=100)
def _delivered(status: int) -> Receipt:
    return Receipt(outcome=Outcome.DELIVERED, status=status)


def _get(account: Account, path: str, buyer_id: str) -> WireRequest | None:
    url = account.settings.get("orders_url")
    if not url:
        return None
    parts = urlsplit(url)
    query = urlencode({"buyer_id": buyer_id}, errors="replace")
    headers = {"accept": _JSON}
    token = account.settings.get("orders_token")
    if token:
        headers["authorization"] = f"Bearer {token}"
    return WireRequest(
        method="GET",
        url=urlunsplit(
            (
                parts.scheme,
                parts.netloc,
                parts.path.rstrip("/") + path,
                f"{parts.query}&{query}" if parts.query else query,
                "",
            )
        ),
        headers=headers,
    )


def _read_object(response: WireResponse) -> dict[str, Any]:
    if not 200 <= response.status < 300:
        code = "orders_refused" if response.status in (401, 403) else "orders_failed"
        raise ChannelError(f"the order service answered {response.status}", code=code)
    try:
        document = orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise ChannelError("the order service answered no JSON", code="orders_invalid") from error
    if not isinstance(document, dict):
        raise ChannelError("the order service answered no JSON object", code="orders_invalid")
    return cast("dict[str, Any]", document)
