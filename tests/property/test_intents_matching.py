"""Properties of normalising and matching that hold for any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.intents.fitted import FittedIndex, fit
from app.intents.matcher import Matcher, build_matcher
from app.intents.normalise import Normaliser
from tests.unit.intents.small_knowledge import SCOPE, snapshot

NORMALISER = Normaliser()
MATCHER = build_matcher(snapshot())
RESTORED = Matcher(snapshot(), FittedIndex.from_bytes(fit(snapshot()).to_bytes()))

SHOP_TALK = st.text(
    alphabet="亲请问什么时候发货退款到哪了快递不用取消已经谢好的在吗呀呢啊哦哈發貨這個，。？！ 、~…abcEN0123456789[]()#/&<x>",
    max_size=40,
)
ANY = st.one_of(SHOP_TALK, st.text(max_size=60), st.text(st.characters(), max_size=60))


@given(ANY)
def test_normalising_again_changes_nothing(text: str) -> None:
    once = NORMALISER.normalise(text)
    assert NORMALISER.normalise(once) == once


@given(ANY)
def test_any_text_is_understood_with_sane_confidences(text: str) -> None:
    understanding = MATCHER.understand(text, scope=SCOPE)
    for match in (*understanding.questions, MATCHER.rank(text, scope=SCOPE)):
        assert 0 <= match.confidence <= 1
        assert len(match.ranked) <= 3
        assert len({one.entry_id for one in match.ranked}) == len(match.ranked)
        assert all(0 <= one.score <= 1 for one in match.ranked)


@given(ANY)
def test_a_stored_fit_ranks_the_same(text: str) -> None:
    assert RESTORED.rank(text, scope=SCOPE) == MATCHER.rank(text, scope=SCOPE)


@pytest.mark.parametrize(
    "text",
    [
        "\ud800" * 100_000,
        "退" + "\u0301" * 100_000,
        "啊" * 100_000,
        "谢谢你" * 40_000,
        "什么时候发货，" * 15_000,
        "a " * 50_000,
        "[" * 100_000,
        "(" * 50_000 + "abc)" * 10_000,
        "好的行嗯" * 25_000,
        "1" * 100_000,
    ],
    ids=[
        "surrogates",
        "zalgo",
        "vowels",
        "courtesy",
        "clauses",
        "words",
        "brackets",
        "readings",
        "social",
        "digits",
    ],
)
def test_a_huge_text_takes_a_bounded_time(text: str) -> None:
    began = time.process_time()
    MATCHER.understand(text, scope=SCOPE)
    assert time.process_time() - began < 2
