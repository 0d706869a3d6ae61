"""The codec of what the bot remembers."""

from app.domain.conversations import Memory, RecentText
from app.pipeline.records import memory_from_json, memory_to_json

FULL = Memory(
    session=3,
    welcomed=True,
    unknown_streak=1,
    recent=(RecentText("什么时候发货", 1_700_000_000_000, 2),),
    offered=("ship_when", "ship_urge"),
    answered=(("ship_when", 1_700_000_000_000),),
    automatic_ms=(1, 2, 3),
    topic_counts=(("price_bargain", 2),),
    topic="ship_when",
)


def test_a_memory_comes_back_as_it_was() -> None:
    assert memory_from_json(memory_to_json(FULL)) == FULL
    assert memory_from_json(memory_to_json(Memory())) == Memory()


def test_a_field_of_a_newer_version_is_left_out() -> None:
    text = memory_to_json(FULL).replace('"session":3', '"session":3,"from_the_future":[1]')
    assert memory_from_json(text) == FULL


def test_a_field_that_is_missing_has_its_default() -> None:
    assert memory_from_json('{"session":2}') == Memory(session=2)
