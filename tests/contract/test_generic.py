"""The generic channel: every odd input keeps its promise, replies and orders have the agreed wire format."""

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.channels import signing
from app.channels.addresses import AddressPolicy
from app.channels.base import ChannelAdapter, SettingField
from app.channels.registry import Registry
from app.core.errors import ChannelError
from app.domain.delivery import Account, OutboundMessage, Outcome, RawDelivery, WireResponse
from app.domain.messages import Author, Content, ContentType, EventKind, InboundEvent
from app.orders.parsing import parse_order

ADAPTER: ChannelAdapter = Registry().get("generic")
KEYS = (b"new" * 10, b"old" * 10)
NOW_MS = 1_795_248_000_000
ACCOUNT = Account(
    id="a-1",
    channel="generic",
    shop_id="s-1",
    secrets=KEYS,
    settings={
        "callback_url": "https://shop.example.com/replies?shop=1",
        "orders_url": "https://shop.example.com/orders/",
        "orders_token": "t0ken",
    },
)


def parse(
    body: bytes | str | dict[str, Any], *, webhook_id: str | None = "w-1", content_type: str = ""
) -> InboundEvent:
    raw = (
        json.dumps(body).encode()
        if isinstance(body, dict)
        else body.encode()
        if isinstance(body, str)
        else body
    )
    headers = {} if webhook_id is None else {"webhook-id": webhook_id}
    if content_type:
        headers["content-type"] = content_type
    (event,) = ADAPTER.parse(RawDelivery(headers=headers, body=raw))
    return event


def message(content: Any = None, **changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": "m-1",
        "conversation_id": "c-1",
        "buyer": {"id": "b-1"},
        "content": {"type": "text", "text": "在吗"} if content is None else content,
    }
    return {"type": "message.created", "data": data | changes}


def reason(body: bytes | str | dict[str, Any], **options: Any) -> str | None:
    event = parse(body, **options)
    assert event.kind is EventKind.REJECTED, event
    return event.reason


# --- bad inputs ---


@pytest.mark.parametrize("body", ["", "   ", "\n"])
def test_an_empty_body_is_kept_as_rejected(body: str):
    assert reason(body) == "empty_body"


@pytest.mark.parametrize("body", ["hello", "{", '{"type": }', "{'type': 1}", "type=message.created"])
def test_what_is_no_json_is_kept_as_rejected(body: str):
    assert reason(body) == "decode_failed"


@pytest.mark.parametrize("body", ["[]", '"message.created"', "1", "null", "[{}]"])
def test_what_is_no_object_is_kept_as_rejected(body: str):
    assert reason(body) == "not_an_object"


@pytest.mark.parametrize("body", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1"])
def test_a_bottomless_body_is_rejected_in_a_moment(body: str):
    raw = body.encode()
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        assert reason(raw) in ("too_deep", "decode_failed")
        best = min(best, time.process_time() - begun)
    assert best < 0.005


def test_the_limit_of_depth_is_64():
    def nested(depth: int) -> bytes:
        # The event and its data are two levels of their own.
        return json.dumps(message(order_id=None, extra=json.loads("[" * depth + "]" * depth))).encode()

    assert parse(nested(62)).kind is EventKind.MESSAGE
    assert reason(nested(63)) == "too_deep"
    assert reason(nested(500)) == "too_deep"
    assert (
        reason(
            nested(62).replace(b'"type"', b'"\\u0074ype"', 1)[:-1] + b', "x": ' + b"[" * 70 + b"]" * 70 + b"}"
        )
        == "too_deep"
    )


def test_many_brackets_side_by_side_are_no_depth():
    assert parse(message(extra=[[] for _ in range(500)])).kind is EventKind.MESSAGE


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5000]
)
def test_a_number_beyond_every_range_is_kept_as_rejected(number: str):
    assert reason(json.dumps(message(extra="N")).replace('"N"', number)) == "number_out_of_range"


@pytest.mark.parametrize(
    "body",
    [
        '{"type":"message.created","data":{"message_id":"m-1","message_id":"m-2","conversation_id":"c","buyer":{"id":"b"},"content":{"type":"text","text":"x"}}}',
        '{"type":"message.created","data":{"message_id":"m-1","conversation_id":"c","conversation_id":"d","buyer":{"id":"b"},"content":{"type":"text","text":"x"}}}',
        '{"type":"message.created","data":{"message_id":"m-1","conversation_id":"c","buyer":{"id":"b","id":"b2"},"content":{"type":"text","text":"x"}}}',
        '{"type":"message.created","data":{"message_id":"m-1","conversation_id":"c","buyer":{"id":"b"},"content":{"type":"text","text":"x","text":"y"}}}',
        '{"type":"message.created","data":{"message_id":"m-1","conversation_id":"c","buyer":{"id":"b"},"content":{"type":"text","text":"x"},"content":{"type":"text","text":"y"}}}',
        '{"type":"message.created","data":{"message_id":"m-1","message\\u005fid":"m-2","conversation_id":"c","buyer":{"id":"b"},"content":{"type":"text","text":"x"}}}',
    ],
)
def test_a_key_given_twice_is_refused_rather_than_guessed(body: str):
    assert reason(body) == "duplicate_key"


def test_text_that_only_looks_like_a_repeated_key_is_a_message():
    text = '{"text": "a", "text": "b", "message_id": 1, "message_id": 2} \\u0061'
    event = parse(message({"type": "text", "text": text}))
    assert event.content == Content(text=text)


def test_a_byte_order_mark_is_stepped_over():
    assert parse(b"\xef\xbb\xbf" + json.dumps(message()).encode()).message_id == "m-1"


@pytest.mark.parametrize("charset", ["gbk", "GB2312", "gb18030", "utf-16", "big5"])
def test_a_declared_charset_is_honoured(charset: str):
    body = json.dumps(
        message({"type": "text", "text": "什麼時候發貨" if charset == "big5" else "什么时候发货"}),
        ensure_ascii=False,
    )
    event = parse(body.encode(charset), content_type=f"application/json; charset={charset}")
    assert event.content is not None
    assert event.content.text.startswith("什")
    assert "\ufffd" not in event.content.text


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps(message(), ensure_ascii=False).encode("gbk"), "application/json"),
        (json.dumps(message(), ensure_ascii=False).encode("utf-16"), "application/json"),
        (json.dumps(message(), ensure_ascii=False).encode("utf-16-le"), ""),
        (json.dumps(message()).encode(), "application/json; charset=klingon"),
        (b"\xff\xff\xff\xff", "application/json; charset=gbk"),
    ],
)
def test_an_undeclared_or_wrong_charset_is_kept_as_rejected(body: bytes, content_type: str):
    assert reason(body, content_type=content_type) == "charset"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png", "", "🙂"]
)
def test_the_content_type_itself_does_not_matter(content_type: str):
    assert parse(message(), content_type=content_type).kind is EventKind.MESSAGE


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xe4\xbd", "\ufffd"),
        (b"hi \xff\xfe there", "hi \ufffd\ufffd there"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\\ud800", "\ufffd"),
        (b"\\udc00\\ud83d\\ude00", "\ufffd😀"),
        (b"\\ud83dx", "\ufffdx"),
        (b"\\\\ud800", "\\ud800"),
        ("亲\x00".encode().replace(b"\x00", b"\\u0000"), "亲"),
        (b"a\\u0000b", "ab"),
        ("\ufffd".encode() * 9 + b"\\u0041", "\ufffd" * 9 + "A"),
    ],
)
def test_broken_text_is_mended_and_processed(raw: bytes, text: str):
    event = parse(json.dumps(message({"type": "text", "text": "TEXT"})).encode().replace(b"TEXT", raw))
    assert event.kind is EventKind.MESSAGE
    assert event.content == Content(text=text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "🙂",
        "\u200b",
        "{{7*7}}",
        "${x} %s {0.__class__}",
        "<script>alert(1)</script>",
        "'; DROP TABLE x",
        "\u202egnp.exe",
        "长" * 100_000,
    ],
)
def test_any_text_is_a_message_word_for_word(text: str):
    assert parse(message({"type": "text", "text": text})).content == Content(text=text)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "message_id_missing"),
        ("", "message_id_invalid"),
        ("  ", "message_id_invalid"),
        ("x" * 513, "message_id_invalid"),
        ("x" * 10_240, "message_id_invalid"),
        ("a\nb", "message_id_invalid"),
        ("a\x00b", "message_id_invalid"),
        ("\x7f", "message_id_invalid"),
        ("a\u2028b", "message_id_invalid"),
        (True, "message_id_invalid"),
        (1.5, "message_id_invalid"),
        ([], "message_id_invalid"),
    ],
)
def test_an_unusable_message_id_is_kept_as_rejected(value: Any, problem: str):
    event = parse(message(message_id=value))
    assert (event.kind, event.reason, event.dedupe_key) == (EventKind.REJECTED, problem, "w:w-1")


def test_an_id_may_be_a_number_and_is_a_text_for_us():
    event = parse(message(message_id=9_007_199_254_740_993, conversation_id=5, buyer={"id": 7}))
    assert event.dedupe_key == "m:9007199254740993"
    assert event.conversation_id == "5"
    assert event.buyer is not None
    assert event.buyer.id == "7"


@pytest.mark.parametrize("webhook_id", [None, "", "x" * 10_240, "a\x01b"])
def test_an_unusable_webhook_id_is_kept_as_rejected_under_a_key_of_its_own(webhook_id: str | None):
    first, again = parse(message(), webhook_id=webhook_id), parse(message(), webhook_id=webhook_id)
    other = parse(message(extra=1), webhook_id=webhook_id)
    assert (first.kind, first.reason) == (EventKind.REJECTED, "webhook_id_invalid")
    assert first.dedupe_key == again.dedupe_key != other.dedupe_key
    assert len(first.dedupe_key) < 100


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "type_missing"),
        ({"type": None}, "type_missing"),
        ({"type": 5}, "type_missing"),
        ({"type": "message.created"}, "data_missing"),
        ({"type": "message.created", "data": []}, "data_missing"),
        (message(conversation_id=None), "conversation_id_missing"),
        (message(buyer=None), "buyer_missing"),
        (message(buyer="b-1"), "buyer_invalid"),
        (message(buyer={}), "buyer.id_missing"),
        (message(buyer={"id": ""}), "buyer.id_invalid"),
        (message("hello"), "content_invalid"),
        (
            {
                "type": "message.created",
                "data": {k: v for k, v in message()["data"].items() if k != "content"},
            },
            "content_missing",
        ),
        ({"type": "order.updated", "data": {"buyer": {"id": "b"}}}, "order_missing"),
        ({"type": "order.updated", "data": {"buyer": {"id": "b"}, "order": {}}}, "order_id_missing"),
        ({"type": "order.updated", "data": {"order": {"order_id": "O"}}}, "buyer_missing"),
        (
            {
                "type": "order.updated",
                "data": {"buyer": {"id": "b"}, "conversation_id": "", "order": {"order_id": "O"}},
            },
            "conversation_id_invalid",
        ),
        ({"type": "refund.updated", "data": {"buyer": {"id": "b"}, "order_id": "O"}}, "refund_missing"),
        ({"type": "refund.updated", "data": {"buyer": {"id": "b"}, "refund": {}}}, "order_id_missing"),
        ({"type": "review.created", "data": {"buyer": {"id": "b"}, "order_id": "O"}}, "rating_missing"),
        (
            {"type": "review.created", "data": {"buyer": {"id": "b"}, "order_id": "O", "rating": "5"}},
            "rating_invalid",
        ),
        ({"type": "conversation.closed", "data": {}}, "conversation_id_missing"),
        (
            {"type": "message.echo", "data": {"conversation_id": "c", "content": {"type": "text"}}},
            "message_id_missing",
        ),
    ],
)
def test_a_missing_or_wrong_field_is_named(body: dict[str, Any], problem: str):
    assert reason(body) == problem


@pytest.mark.parametrize("kind", ["message.send", "message.send.failed", "message.sending"])
def test_our_own_types_coming_back_are_ignored(kind: str):
    event = parse({"type": kind, "data": message()["data"]})
    assert (event.kind, event.reason, event.dedupe_key) == (EventKind.IGNORED, "own_message", "w:w-1")


def test_an_unknown_type_is_ignored():
    event = parse({"type": "message.read", "data": None})
    assert (event.kind, event.reason) == (EventKind.IGNORED, "ignored_type")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "gopher://x",
        "data:text/html,x",
        "http://a\nb",
        5,
        "https://" + "x" * 5000,
    ],
)
def test_a_link_that_must_not_be_shown_is_kept_out_of_sight(url: Any):
    content = parse(message({"type": "image", "url": url})).content
    assert content is not None
    assert (content.type, content.url) == (ContentType.IMAGE, None)
    assert content.raw == {"type": "image", "url": url}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": None},
        {"type": ["text"]},
        {"type": "Text"},
        {"type": "text", "text": ["x"]},
        {"type": "text", "text": True},
    ],
)
def test_content_of_an_unknown_kind_is_a_message_with_everything_kept(content: dict[str, Any]):
    event = parse(message(content))
    assert event.kind is EventKind.MESSAGE
    assert event.content is not None
    assert (event.content.type, event.content.raw) == (ContentType.OTHER, content)


def test_wrong_optional_fields_count_as_missing():
    event = parse(
        message(
            order_id="",
            product_id=[],
            sent_at="yesterday",
            buyer={"id": "b-1", "nickname": 5, "tier": "\x00"},
        )
    )
    assert event.kind is EventKind.MESSAGE
    assert (event.order_id, event.product_id, event.sent_at_ms) == (None, None, None)
    assert event.buyer is not None
    assert (event.buyer.nickname, event.buyer.tier) == (None, None)


# --- replies ---


def reply(**changes: Any) -> OutboundMessage:
    values: dict[str, Any] = {
        "key": "d-7",
        "message_id": "77",
        "conversation_external_id": "c-1",
        "author": Author.BOT,
        "content": Content(text="亲，您的快递明天送到。"),
        "created_at_ms": NOW_MS,
        "in_reply_to": "m-2",
        "answers": ("m-1", "m-2"),
    }
    return OutboundMessage(**(values | changes))


def test_a_reply_has_the_agreed_body_and_is_signed_by_every_live_key():
    request = ADAPTER.build_request(reply(), ACCOUNT, now_ms=NOW_MS + 5_900)
    assert (request.method, request.url) == ("POST", "https://shop.example.com/replies?shop=1")
    assert orjson.loads(request.body) == {
        "type": "message.send",
        "timestamp": "2026-11-21T08:00:00.000Z",
        "data": {
            "message_id": "77",
            "conversation_id": "c-1",
            "in_reply_to": "m-2",
            "answers": ["m-1", "m-2"],
            "author": "bot",
            "content": {"type": "text", "text": "亲，您的快递明天送到。"},
        },
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "d-7"
    assert request.headers["webhook-timestamp"] == str(NOW_MS // 1000 + 5)
    for key in KEYS:
        signing.verify(request.headers, request.body, [key], now_ms=NOW_MS)


def test_an_unsolicited_message_answers_nothing():
    data = orjson.loads(
        ADAPTER.build_request(reply(in_reply_to=None, answers=None), ACCOUNT, now_ms=NOW_MS).body
    )["data"]
    assert (data["in_reply_to"], data["answers"]) == (None, None)


def test_half_a_surrogate_pair_does_not_stop_a_reply():
    body = ADAPTER.build_request(reply(content=Content(text="好的\ud83d")), ACCOUNT, now_ms=NOW_MS).body
    assert orjson.loads(body)["data"]["content"]["text"] == "好的?"


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ((200, 201, 202, 204, 299), Outcome.DELIVERED),
        ((408, 425, 429, 500, 502, 503, 504, 599, 300, 301, 302, 307, 308, 304), Outcome.RETRY),
        ((401, 403, 410), Outcome.PAUSE_ACCOUNT),
        ((400, 402, 404, 405, 409, 413, 415, 422, 451, 499), Outcome.FAILED),
    ],
)
def test_a_status_means_what_the_contract_says(statuses: tuple[int, ...], outcome: Outcome):
    for status in statuses:
        receipt = ADAPTER.read_response(
            WireResponse(status=status, headers={}, body=b'{"ok": false}'), now_ms=NOW_MS
        )
        assert (receipt.outcome, receipt.status) == (outcome, status)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("99999999999999999999", 3600.0),
        ("Sat, 21 Nov 2026 08:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 07:00:00 GMT", 0.0),
        ("Sun, 21 Nov 2027 08:00:00 GMT", 3600.0),
        ("-5", None),
        ("soon", None),
        ("１２", None),
        ("", None),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour(value: str, seconds: float | None):
    response = WireResponse(status=429, headers={"retry-after": value}, body=b"")
    assert ADAPTER.read_response(response, now_ms=NOW_MS).retry_after == seconds


def test_what_the_receiver_said_reaches_the_agent_on_one_short_line():
    body = json.dumps({"detail": "no such\nconversation " + "x" * 500}).encode()
    error = ADAPTER.read_response(WireResponse(status=404, headers={}, body=body), now_ms=NOW_MS).error
    assert error is not None
    assert error.startswith("HTTP 404: no such conversation xxx")
    assert len(error) < 220


# --- orders ---


def test_orders_are_asked_for_with_the_token_and_for_one_buyer():
    one, all_of_them = ADAPTER.order_request(ACCOUNT, "O/9 ü", "b&1"), ADAPTER.orders_request(ACCOUNT, "王 1")
    assert one is not None
    assert all_of_them is not None
    assert (one.method, one.url) == ("GET", "https://shop.example.com/orders/O%2F9%20%C3%BC?buyer_id=b%261")
    assert all_of_them.url == "https://shop.example.com/orders?buyer_id=%E7%8E%8B+1"
    assert one.headers["authorization"] == "Bearer t0ken"


def answer(status: int, document: Any) -> WireResponse:
    return WireResponse(
        status=status, headers={}, body=document if isinstance(document, bytes) else orjson.dumps(document)
    )


def test_no_such_order_is_no_failure():
    assert ADAPTER.read_order(answer(404, b"nope")) is None
    assert ADAPTER.read_orders(answer(404, b"nope")) == ()


def test_at_most_twenty_orders_are_read_and_junk_among_them_is_skipped():
    items = [{"order_id": str(number)} for number in range(30)]
    assert ADAPTER.read_orders(answer(200, {"items": ["x", None, *items]})) == tuple(items[:20])


@pytest.mark.parametrize(
    "response", [answer(500, {}), answer(301, {}), answer(200, b"<html>"), answer(200, []), answer(200, b"")]
)
def test_a_failing_order_service_is_an_error(response: WireResponse):
    with pytest.raises(ChannelError):
        ADAPTER.read_orders(response)
    with pytest.raises(ChannelError):
        ADAPTER.read_order(response)


def test_a_list_without_items_is_an_error():
    with pytest.raises(ChannelError) as caught:
        ADAPTER.read_orders(answer(200, {"orders": []}))
    assert caught.value.code == "orders_invalid"


def test_a_refused_token_is_told_apart():
    with pytest.raises(ChannelError) as caught:
        ADAPTER.read_orders(answer(401, {}))
    assert caught.value.code == "orders_refused"


# --- settings ---

SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()


def test_good_settings_have_no_problems():
    settings = {
        "secret": [SECRET] * 3,
        "callback_url": "https://shop.example.com/replies",
        "orders_url": "http://shop.example.com:8080/orders",
        "orders_token": "abc",
        "chat": "relay",
    }
    assert ADAPTER.check_settings(settings) == []
    assert ADAPTER.check_settings({"secret": SECRET}) == []
    assert ADAPTER.open_secrets([SECRET]) == (b"s" * 24,)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"secret": "whsec_" + base64.b64encode(b"s" * 23).decode()}, "secret"),
        ({"secret": "hunter2!"}, "secret"),
        ({"secret": [SECRET] * 4}, "secret"),
        ({"orders_token": "a\nb"}, "orders_token"),
        ({"orders_token": ""}, "orders_token"),
        ({"chat": "yes"}, "chat"),
        ({"orders_url": ["https://a.example.com", "https://b.example.com"]}, "orders_url"),
    ],
)
def test_a_wrong_setting_is_named_and_a_secret_never_repeated(settings: dict[str, Any], field: str):
    problems = ADAPTER.check_settings(settings)
    assert [problem.field for problem in problems] == [field]
    assert "hunter2" not in repr(problems)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example.com",
        "https://user:password@shop.example.com",
        "https:///replies",
        "shop.example.com",
        "",
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://localhost:9000",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3",
        "http://[::ffff:10.0.0.1]/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://2130706433/",
        "http://relay.internal/",
        "http://example.com:99999/",
        "http://exa mple.com/",
        "http://example.com/\r\nx: y",
    ],
)
def test_an_address_that_we_must_not_call_is_refused(url: str):
    problems = ADAPTER.check_settings({"callback_url": url})
    assert [problem.field for problem in problems] == ["callback_url"]
    assert problems[0].message.startswith("url_not_allowed")


def test_listed_private_addresses_are_allowed():
    policy = AddressPolicy.parse(["127.0.0.0/8", "::1", "relay.internal"])
    for url in ("http://127.0.0.1:9000/x", "http://[::1]/x", "http://localhost/x", "http://relay.internal/x"):
        assert ADAPTER.check_settings({"callback_url": url}, policy=policy) == []
    assert ADAPTER.check_settings({"callback_url": "http://10.0.0.1/"}, policy=policy) != []


# --- the page about it ---

PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "generic.md").read_text(encoding="utf-8")


def test_the_sender_on_the_page_makes_a_good_webhook():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    made: dict[str, Any] = {}
    exec(program.partition("request = ")[0], made)
    headers = {
        "webhook-id": made["webhook_id"],
        "webhook-timestamp": made["timestamp"],
        "webhook-signature": made["signature"],
    }
    account = Account(
        id="a-2",
        channel="generic",
        shop_id="s-1",
        secrets=ADAPTER.open_secrets([made["secret"]]),
        settings={},
    )
    delivery = RawDelivery(headers=headers, body=made["body"])
    ADAPTER.verify(delivery, account, now_ms=int(made["timestamp"]) * 1000)
    assert ADAPTER.parse(delivery)[0].kind is EventKind.MESSAGE


def test_the_documents_on_the_page_are_understood():
    documents = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert [document.get("type", "order") for document in documents] == [
        "message.created",
        "message.send",
        "order",
    ]
    assert parse(documents[0]).kind is EventKind.MESSAGE
    order = parse_order(documents[2], fetched_at_ms=NOW_MS)
    assert order is not None
    assert set(order.doc) == set(documents[2]) | {"fetched_at", "stale"}


@pytest.mark.parametrize("field", ADAPTER.settings, ids=lambda field: field.name)
def test_every_setting_is_on_the_page(field: SettingField):
    assert f"| `{field.name}` |" in PAGE
