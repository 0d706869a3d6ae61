"""What every marketplace's adapter keeps, whichever it is. A new channel passes this with its fixtures alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.channels.base import ChannelAdapter
from app.channels.registry import Registry
from app.core.errors import ChannelError, NotFoundError, SignatureError
from app.domain.delivery import Account, OutboundMessage, Outcome, RawDelivery, WireRequest, WireResponse
from app.domain.messages import Author, Content, EventKind, InboundEvent

FIXTURES = Path(__file__).parents[1] / "fixtures"
REGISTRY = Registry()
NAMES = REGISTRY.names()
WITH_FIXTURES = [name for name in NAMES if (FIXTURES / name).is_dir()]
NOW_MS = 1_795_248_000_000

ODD_BODIES = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"{",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"type":' * 500 + b"1" + b"}" * 500,
    b'{"type": NaN}',
    b'{"type": 1e999}',
    b'{"type": ' + b"9" * 5000 + b"}",
    b'{"type": "\\ud800"}',
    b'{"type": "message.created", "data": null}',
    b'{"type": ["message.created"]}',
]


def recordings() -> list[Any]:
    found: list[Any] = []
    for name in WITH_FIXTURES:
        for path in sorted((FIXTURES / name).glob("*.json")):
            recording = json.loads(path.read_text(encoding="utf-8"))
            found.append(pytest.param(REGISTRY.get(name), recording, id=f"{name}-{path.stem}"))
    return found


def account_of(adapter: ChannelAdapter, recording: dict[str, Any]) -> Account:
    return Account(
        id="a-1",
        channel=adapter.capabilities.channel,
        shop_id="s-1",
        secrets=adapter.open_secrets(recording["secrets"]),
        settings=recording.get("settings", {}),
    )


def delivery_of(recording: dict[str, Any]) -> RawDelivery:
    return RawDelivery(
        headers=recording["headers"], body=recording["body"].encode(), query=recording.get("query", "")
    )


def as_expected(event: InboundEvent) -> dict[str, Any]:
    """An event without its empty fields, as the fixtures write it."""
    found: dict[str, Any] = {"kind": event.kind.value, "dedupe_key": event.dedupe_key}
    for name in ("conversation_id", "message_id", "order_id", "product_id", "sent_at_ms", "reason"):
        if getattr(event, name) is not None:
            found[name] = getattr(event, name)
    if event.buyer is not None:
        buyer = {"id": event.buyer.id, "nickname": event.buyer.nickname, "tier": event.buyer.tier}
        found["buyer"] = {key: value for key, value in buyer.items() if value is not None}
    if event.content is not None:
        found["content"] = event.content.to_wire()
    if event.payload:
        found["payload"] = dict(event.payload)
    return found


def a_message() -> OutboundMessage:
    return OutboundMessage(
        key="d-1",
        message_id="77",
        conversation_external_id="c-1",
        author=Author.BOT,
        content=Content(text="亲，您的快递明天送到。"),
        created_at_ms=NOW_MS,
        in_reply_to="m-2",
        answers=("m-1", "m-2"),
    )


@pytest.mark.parametrize(("adapter", "recording"), recordings())
def test_a_recorded_webhook_is_verified_and_parsed(adapter: ChannelAdapter, recording: dict[str, Any]):
    delivery = delivery_of(recording)
    adapter.verify(delivery, account_of(adapter, recording), now_ms=recording["now_ms"])
    events = adapter.parse(delivery)
    assert [as_expected(event) for event in events] == recording["expected"]
    assert adapter.parse(delivery) == events


@pytest.mark.parametrize(("adapter", "recording"), recordings())
def test_a_changed_body_a_foreign_key_and_a_late_replay_are_refused(
    adapter: ChannelAdapter, recording: dict[str, Any]
):
    account = account_of(adapter, recording)
    delivery = delivery_of(recording)
    foreign = Account(id="a-2", channel=account.channel, shop_id="s-1", secrets=(b"?" * 32,), settings={})
    tries = [
        (RawDelivery(headers=delivery.headers, body=delivery.body + b" "), account, recording["now_ms"]),
        (RawDelivery(headers={}, body=delivery.body), account, recording["now_ms"]),
        (delivery, foreign, recording["now_ms"]),
        (delivery, account, recording["now_ms"] + 3_600_000),
    ]
    for tried, judge, now_ms in tries:
        with pytest.raises(SignatureError):
            adapter.verify(tried, judge, now_ms=now_ms)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", ODD_BODIES, ids=lambda body: repr(body[:20]))
def test_no_body_makes_parsing_fail(name: str, body: bytes):
    events = REGISTRY.get(name).parse(RawDelivery(headers={"webhook-id": "w-1"}, body=body))
    assert events
    for event in events:
        assert event.kind in (EventKind.REJECTED, EventKind.IGNORED)
        assert event.reason
        assert 0 < len(event.dedupe_key) <= 600


@pytest.mark.parametrize("name", NAMES)
def test_attempts_of_one_message_differ_in_time_and_signature_only(name: str):
    adapter = REGISTRY.get(name)
    account = an_account(adapter)
    first = adapter.build_request(a_message(), account, now_ms=NOW_MS)
    later = adapter.build_request(a_message(), account, now_ms=NOW_MS + 60_000)
    assert (first.method, first.url, first.body) == (later.method, later.url, later.body)
    assert set(first.headers) == set(later.headers)
    assert isinstance(first, WireRequest)


@pytest.mark.parametrize("name", NAMES)
def test_an_account_that_lacks_what_sending_needs_is_told_so(name: str):
    bare = Account(id="a-1", channel=name, shop_id="s-1", secrets=(), settings={})
    with pytest.raises(ChannelError) as caught:
        REGISTRY.get(name).build_request(a_message(), bare, now_ms=NOW_MS)
    assert caught.value.code.endswith("_missing")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"<html>", b'{"message": "no"}', b"x" * 70_000])
def test_every_answer_has_a_meaning(name: str, body: bytes):
    adapter = REGISTRY.get(name)
    for status in range(100, 600):
        receipt = adapter.read_response(WireResponse(status=status, headers={}, body=body), now_ms=NOW_MS)
        assert receipt.outcome is not Outcome.UNKNOWN
        assert (receipt.outcome is Outcome.DELIVERED) == (receipt.error is None)


@pytest.mark.parametrize("name", NAMES)
def test_an_account_without_order_service_has_no_order_requests(name: str):
    adapter = REGISTRY.get(name)
    bare = Account(id="a-1", channel=name, shop_id="s-1", secrets=(), settings={})
    assert adapter.order_request(bare, "O-1", "b-1") is None
    assert adapter.orders_request(bare, "b-1") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_describes_itself(name: str):
    capabilities = REGISTRY.get(name).capabilities
    wire = capabilities.to_wire()
    assert wire["channel"] == name
    assert list(wire) == ["channel", "chat_in", "chat_out", "events", "orders", "tier"]
    assert capabilities.title
    assert len({field.name for field in REGISTRY.get(name).settings}) == len(REGISTRY.get(name).settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_nobody_knows_is_refused_by_name(name: str):
    problems = REGISTRY.get(name).check_settings({"calback_url": "https://shop.example.com/in"})
    assert [problem.field for problem in problems] == ["calback_url"]
    assert problems[0].fix


def test_an_unknown_channel_is_not_found():
    with pytest.raises(NotFoundError) as caught:
        REGISTRY.get("nowhere")
    assert caught.value.code == "channel_unknown"


def an_account(adapter: ChannelAdapter) -> Account:
    return Account(
        id="a-1",
        channel=adapter.capabilities.channel,
        shop_id="s-1",
        secrets=(b"k" * 32,),
        settings={"callback_url": "https://shop.example.com/replies"},
    )
