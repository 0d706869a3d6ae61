"""Plain sentences: filled in without Liquid, and word for word what Liquid would have said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from liquid import Environment, StrictUndefined
from liquid.exceptions import LiquidError

from app.replies.sentences import Sentence
from app.replies.slots import Listing, Table

LIQUID = Environment(undefined=StrictUndefined)

KEYS = st.sampled_from(["name", "title", "size", "first", "items", "地址"])
VALUES = st.recursive(
    st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=3).map(Table), st.lists(inner, max_size=2).map(Listing)
    ),
    max_leaves=8,
)
FACTS = st.dictionaries(st.sampled_from(["shop", "order", "choice"]), VALUES, max_size=3)
SLOTS = st.builds(
    "{{{{ {}{} }}}}".format,
    st.sampled_from(["shop", "order", "choice", "now", "'quoted'", "7"]),
    st.lists(
        st.one_of(KEYS.map(".{}".format), st.integers(-1, 2).map("[{}]".format), st.just("['name']")),
        max_size=3,
    ).map("".join),
)
PIECES = st.one_of(
    SLOTS,
    st.sampled_from(
        ["您好，", "  \n", "{%- if shop %}有{% endif %}", "{{ shop.name | upcase }}", "{{- shop.name -}}", "{{ shop[choice] }}", "}}"]
    ),
)  # fmt: skip


@given(st.lists(PIECES, max_size=4).map("".join), FACTS)
def test_a_sentence_says_what_liquid_says_or_leaves_it_to_liquid(source: str, facts: dict[str, Any]) -> None:
    try:
        template = LIQUID.from_string(source)
    except LiquidError:
        return
    sentence = Sentence.of(template)
    said = sentence.fill_in(facts) if sentence is not None else None
    if said is not None:
        assert said == template.render(facts)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("您问的是“{{ choice.title }}”吗？", "您问的是“改地址”吗？"),
        ("{{ shop.name }}{{ shop.days }}天", "暖屿7天"),
        ("{{- shop.items[0].name }} 到了", "开衫 到了"),
        ("没有标签", "没有标签"),
    ],
)
def test_words_and_plain_slots_are_filled_in(source: str, said: str) -> None:
    sentence = Sentence.of(LIQUID.from_string(source))
    facts = {
        "choice": {"title": "改地址"},
        "shop": Table(name="暖屿", days=7, items=Listing([Table(name="开衫")])),
    }
    assert sentence is not None
    assert sentence.fill_in(facts) == said


@pytest.mark.parametrize(
    "source",
    ["{{ shop.name | upcase }}", "{% if shop.name %}有{% endif %}", "{{ shop[choice.title] }}", "{{ shop.items.size }}", "{{ 'x' }}"],
)  # fmt: skip
def test_what_holds_more_than_plain_slots_is_no_sentence(source: str) -> None:
    assert Sentence.of(LIQUID.from_string(source)) is None


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"shop": {}},
        {"shop": {"name": None}},
        {"shop": {"name": True}},
        {"shop": {"name": 1.5}},
        {"shop": {"name": Listing(["a"])}},
        {"shop": "暖屿"},
        {"shop": {"name": "长" * 5_000}},
    ],
)
def test_anything_out_of_the_ordinary_is_left_to_liquid(facts: dict[str, Any]) -> None:
    sentence = Sentence.of(LIQUID.from_string("{{ shop.name }}"))
    assert sentence is not None
    assert sentence.fill_in(facts) is None
