"""The quick way of reading a document and the careful one agree, whatever is in it."""

import json
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from app.channels.documents import Rejection, read_document

KEYS = ("type", "id", "text", "message_id", "order_id", "data")
GUARDED = frozenset(KEYS)
USUAL = (
    (b'"id"', 1),
    (b'"message_id"', 1),
    (b'"order_id"', 1),
    (b'"text"', 2),
    (b'"type"', 1),
    (b'"data"', 1),
)


def keys() -> st.SearchStrategy[str]:
    return st.sampled_from(KEYS) | st.text(max_size=4)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(KEYS)
)


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may repeat."""


values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(keys(), inner), max_size=5).map(Pairs),
    max_leaves=25,
)


def write(value: Any) -> str:
    """JSON without any blanks, as orjson writes it, but with every repeated key."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{write(key)}:{write(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return orjson.dumps(value).decode()


def both(body: bytes) -> tuple[Any, Any]:
    """What the quick way makes of a body and what the careful one does (a charset but UTF-8 always leads there)."""
    quick = read_document(body, "application/json", usual=USUAL, guarded=GUARDED)
    text = body.decode()
    careful = read_document(text.encode("utf-16"), "x; charset=utf-16", usual=USUAL, guarded=GUARDED)
    return quick, careful


@given(value=values)
@example(value=Pairs([("order_id", "1"), ("order_id", "2")]))
@example(value=Pairs([("order", Pairs([("id", 1)])), ("order", Pairs([("id", 2)]))]))
def test_a_compact_document_reads_alike_with_all_its_repeated_keys(value: Any):
    quick, careful = both(write(value).encode())
    assert quick == careful
    assert orjson.dumps(quick, default=repr) == orjson.dumps(careful, default=repr)


@given(value=values, ascii_only=st.booleans(), indent=st.none() | st.just(1))
def test_a_document_written_otherwise_reads_alike(value: Any, ascii_only: bool, indent: int | None):
    document = json.loads(write(value))
    quick, careful = both(json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode())
    assert quick == careful


def test_a_repeated_key_is_seen_however_the_rest_is_written():
    for text in (
        '{"id":1,"id":2}',
        '{"id":1,"id":1}',
        '{"id":1, "id":1}',
        '{"a":{"id":[1]},"b":{"id":2,"id":3}}',
    ):
        assert read_document(text.encode(), "", usual=USUAL, guarded=GUARDED) == Rejection("duplicate_key")


def test_keys_that_stand_often_in_objects_of_their_own_are_no_repetition():
    items = [{"id": number, "text": "红色"} for number in range(40)]
    for separators in ((",", ":"), (", ", ": ")):
        body = json.dumps({"order": {"items": items}}, separators=separators, ensure_ascii=False).encode()
        assert read_document(body, "", usual=USUAL, guarded=GUARDED) == {"order": {"items": items}}
