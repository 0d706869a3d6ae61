"""Whatever a verified webhook carries: parsing never fails, is quick, and gives the same again."""

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.channels.registry import Registry
from app.domain.delivery import RawDelivery
from app.domain.messages import EventKind, InboundEvent

ADAPTER = Registry().get("generic")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
ids = st.text(min_size=1, max_size=30) | values
contents = values | st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "image", "voice", "video", "order_card", "product_card", "other", "?"]
        )
    },
    optional={"text": values, "url": values, "seconds": values, "order_id": values, "raw": values},
)
data = values | st.fixed_dictionaries(
    {},
    optional={
        "message_id": ids,
        "conversation_id": ids,
        "buyer": values | st.fixed_dictionaries({"id": ids}, optional={"nickname": values, "tier": values}),
        "content": contents,
        "order_id": ids,
        "order": values | st.fixed_dictionaries({"order_id": ids}),
        "refund": values,
        "rating": values,
        "sent_at": values | st.datetimes().map(str),
    },
)
kinds = values | st.sampled_from(
    [
        "message.created",
        "message.echo",
        "order.updated",
        "refund.updated",
        "review.created",
        "conversation.closed",
        "message.send",
    ]
)
documents = values | st.fixed_dictionaries({}, optional={"type": kinds, "timestamp": values, "data": data})
content_types = (
    st.sampled_from(
        ["", "application/json", "text/plain; charset=gbk", "x; charset=utf-16", "x;charset=\x00"]
    )
    | st.text()
)


def parse(body: bytes, webhook_id: str = "w-1", content_type: str = "") -> InboundEvent:
    delivery = RawDelivery(headers={"webhook-id": webhook_id, "content-type": content_type}, body=body)
    begun = time.process_time()
    (event,) = ADAPTER.parse(delivery)
    assert time.process_time() - begun < 1.0
    assert ADAPTER.parse(delivery) == (event,)
    odd = event.kind in (EventKind.REJECTED, EventKind.IGNORED)
    assert odd == (event.reason is not None)
    assert 0 < len(event.dedupe_key) <= 514
    event.dedupe_key.encode()
    if event.kind is EventKind.MESSAGE:
        assert event.conversation_id
        assert event.buyer is not None
        assert event.content is not None
        assert event.dedupe_key == f"m:{event.message_id}"
        assert "\x00" not in event.content.text
        event.content.text.encode()
    return event


@given(body=st.binary(max_size=300), webhook_id=st.text(max_size=30), content_type=content_types)
def test_any_bytes(body: bytes, webhook_id: str, content_type: str):
    parse(body, webhook_id, content_type)


@given(document=documents, ascii_only=st.booleans(), content_type=content_types)
def test_any_json(document: Any, ascii_only: bool, content_type: str):
    text = json.dumps(document, ensure_ascii=ascii_only)
    parse(text.encode("utf-8", "surrogatepass"), content_type=content_type)


@given(document=documents, cut=st.integers(0, 400), patch=st.binary(max_size=3))
def test_any_json_with_a_few_bytes_broken(document: Any, cut: int, patch: bytes):
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    parse(body[:cut] + patch + body[cut + len(patch) :])


@given(text=st.text(max_size=200))
def test_a_good_message_keeps_its_text(text: str):
    document = {
        "type": "message.created",
        "data": {
            "message_id": "m-1",
            "conversation_id": "c-1",
            "buyer": {"id": "b-1"},
            "content": {"type": "text", "text": text},
        },
    }
    for ascii_only in (True, False):
        event = parse(json.dumps(document, ensure_ascii=ascii_only).encode())
        assert event.content is not None
        assert event.content.text == text.replace("\x00", "")


@given(depth=st.integers(0, 3000), opening=st.sampled_from(["[", '{"a":', '[{"b":']))
def test_any_depth(depth: int, opening: str):
    closing = "".join({"[": "]", "{": "}"}[character] for character in reversed(opening) if character in "[{")
    parse((opening * depth + "1" + closing * depth).encode())
    parse((opening * depth).encode())
