"""Messages understood against a small knowledge base."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from app.domain.knowledge import Snapshot, SynonymGroup
from app.domain.matching import Band, Thresholds
from app.intents.clauses import split_questions
from app.intents.fitted import FittedIndex, StoredIndexError, fit
from app.intents.fusion import FusionModel, shipped_model
from app.intents.matcher import Matcher, build_matcher, shipped_thresholds
from app.intents.normalise import Normaliser
from tests.unit.intents.small_knowledge import SCOPE, entry, snapshot

MATCHER = build_matcher(snapshot())
LENIENT = replace(SCOPE, thresholds=Thresholds(answer_at=0.5, ask_at=0.2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("亲，啥时候发货呀？", "ship_when"),
        ("我的包裹到哪儿了", "track"),
        ("快遞到哪裡了", "track"),
        ("能开发票吗谢谢", "invoice"),
        ("老板再便宜一点嘛", "cheaper"),
        ("退款几天能到账", "refund"),
        ("收货地址填错了怎么改", "address"),
        ("when will it be shipped?", "ship_when"),
        ("how can I return my item", "return"),
    ],
)
def test_other_words_find_the_entry_that_is_meant(text: str, expected: str) -> None:
    best = MATCHER.rank(text, scope=SCOPE).best
    assert best is not None
    assert best.entry_id == expected


def test_a_phrasing_of_the_knowledge_base_is_answered() -> None:
    match = MATCHER.rank("可以开发票吗", scope=SCOPE)
    assert match.band is Band.ANSWER
    assert match.ranked[0].variant == "可以开发票吗"
    assert match.confidence == match.ranked[0].score


def test_at_most_three_are_ranked_best_first() -> None:
    ranked = MATCHER.rank("快递什么时候发", scope=SCOPE).ranked
    assert 1 <= len(ranked) <= 3
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


@pytest.mark.parametrize("text", ["今晚月色真美", "我家猫会后空翻", "asdfgh qwerty", "一二三四五"])
def test_what_no_entry_answers_is_unknown(text: str) -> None:
    assert MATCHER.rank(text, scope=SCOPE).band is Band.UNKNOWN


@pytest.mark.parametrize("text", ["", "？？", "😡😡😡", "202611210001234", "13800138000", "[图片]", "\ud800"])
def test_a_message_without_words_matches_nothing(text: str) -> None:
    understanding = MATCHER.understand(text, scope=SCOPE)
    assert all(match.best is None and match.confidence == 0 for match in understanding.questions)


@pytest.mark.parametrize(
    "text", ["不用退了", "我不想退货了", "取消退款", "退款不要了", "已经申请退款了", "不用开发票了"]
)
def test_an_act_undone_or_done_is_not_taken_for_a_request(text: str) -> None:
    assert MATCHER.rank(text, scope=SCOPE).band is not Band.ANSWER


@pytest.mark.parametrize("text", ["能不能退货", "怎么还不退款", "可以不退货吗"])
def test_a_question_with_a_negation_is_still_a_question(text: str) -> None:
    assert MATCHER.rank(text, scope=SCOPE).best is not None


def test_two_questions_in_one_message_are_both_found_as_written() -> None:
    questions = MATCHER.understand("什么时候发货？可以开发票吗", scope=SCOPE).questions
    assert [(match.text, match.ranked[0].entry_id) for match in questions] == [
        ("什么时候发货", "ship_when"),
        ("可以开发票吗", "invoice"),
    ]


def test_courtesy_beside_a_question_is_dropped() -> None:
    understanding = MATCHER.understand("你好，在吗？什么时候发货呀，多谢", scope=SCOPE)
    assert understanding.normalised == "什么时候发货"
    assert not understanding.social
    assert [match.ranked[0].entry_id for match in understanding.questions] == ["ship_when"]


def test_courtesy_alone_is_social_and_waits() -> None:
    understanding = MATCHER.understand("你好，在吗", scope=SCOPE)
    assert understanding.social
    assert not understanding.complete
    assert understanding.questions[0].ranked[0].entry_id == "hello"


@pytest.mark.parametrize(
    "text", ["在吗", "亲", "你好", "那个", "我想", "快递", "我昨天买的，", "因为", "订单"]
)
def test_a_fragment_waits_for_more(text: str) -> None:
    assert not MATCHER.understand(text, scope=SCOPE).complete


@pytest.mark.parametrize(
    "text", ["什么时候发货", "我要退货", "怎么开发票", "我的快递为什么一直没有动静", "我要投诉你们,打12315"]
)
def test_a_whole_question_does_not_wait(text: str) -> None:
    assert MATCHER.understand(text, scope=SCOPE).complete


def test_courtesy_phrasings_do_not_swallow_content() -> None:
    match = MATCHER.rank("谢谢你啊帮我把窗户擦一下", scope=SCOPE)
    assert match.band is not Band.ANSWER


def test_thresholds_of_the_scope_win() -> None:
    strict = replace(SCOPE, thresholds=Thresholds(answer_at=1.1, ask_at=1.05))
    assert MATCHER.rank("可以开发票吗", scope=strict).band is Band.UNKNOWN
    assert MATCHER.understand("可以开发票吗", scope=strict).questions[0].band is Band.UNKNOWN
    assert MATCHER.rank("可以开发票吗", scope=LENIENT).band is Band.ANSWER


def test_entries_out_of_scope_are_not_found() -> None:
    matcher = build_matcher(
        snapshot(
            entry("other_shop", ("会员日是几号", "会员日什么时候"), shops=frozenset({"elsewhere"})),
            entry("over", ("周年庆打几折", "周年庆活动"), valid_until_ms=500),
            entry("line_only", ("怎么绑定帐号", "帐号绑定"), channels=frozenset({"line"})),
        )
    )
    for text, name in (
        ("会员日是几号", "other_shop"),
        ("周年庆打几折", "over"),
        ("怎么绑定帐号", "line_only"),
    ):
        assert name not in {one.entry_id for one in matcher.rank(text, scope=SCOPE).ranked}
    found = matcher.rank("会员日是几号", scope=replace(SCOPE, shop_id="elsewhere")).best
    assert found is not None
    assert found.entry_id == "other_shop"


def test_an_empty_knowledge_base_knows_nothing() -> None:
    matcher = build_matcher(Snapshot(version=3, entries=()))
    understanding = matcher.understand("什么时候发货", scope=SCOPE)
    assert matcher.version == 3
    assert [match.band for match in understanding.questions] == [Band.UNKNOWN]
    assert understanding.questions[0].ranked == ()


def test_a_knowledge_base_of_one_entry_works() -> None:
    matcher = build_matcher(Snapshot(version=1, entries=(entry("only", ("有停车场吗",)),)))
    best = matcher.rank("有停车场吗", scope=SCOPE).best
    assert best is not None
    assert best.entry_id == "only"


def test_the_shops_synonyms_bridge_words_that_share_no_character() -> None:
    synonyms = (SynonymGroup(id="local", words=("泊位", "停车")),)
    matcher = build_matcher(snapshot(entry("parking", ("门口停车吗", "停车方便吗")), synonyms=synonyms))
    best = matcher.rank("泊位方便吗", scope=SCOPE).best
    assert best is not None
    assert best.entry_id == "parking"


def test_a_stored_fit_ranks_as_before() -> None:
    base = snapshot()
    fitted = fit(base)
    again = Matcher(base, FittedIndex.from_bytes(fitted.to_bytes()))
    for text in ("啥时候发货", "快递到哪了", "能便宜点不", "where is my order", "谢谢"):
        assert again.rank(text, scope=SCOPE) == Matcher(base, fitted).rank(text, scope=SCOPE)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not a fit"])
def test_other_bytes_are_no_stored_fit(data: bytes) -> None:
    with pytest.raises(StoredIndexError):
        FittedIndex.from_bytes(data)


def test_a_fit_of_other_knowledge_is_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        Matcher(snapshot(entry("more", ("有停车场吗",))), fit(snapshot()))


def test_a_very_long_text_is_taken_sentence_by_sentence() -> None:
    text = "我买了很多东西。" * 60 + "什么时候发货？" + "今天天气不错。" * 60 + "我要投诉你们。"
    found = {match.ranked[0].entry_id for match in MATCHER.understand(text, scope=SCOPE).questions}
    assert {"ship_when", "complaint"} <= found


def test_one_matcher_serves_many_threads() -> None:
    expected = MATCHER.rank("什么时候发货", scope=SCOPE)
    wrong: list[object] = []

    def work() -> None:
        for number in range(50):
            MATCHER.rank(f"第{number}次问快递到哪了", scope=SCOPE)
            if MATCHER.rank("什么时候发货", scope=SCOPE) != expected:
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_shipped_thresholds_are_in_order() -> None:
    thresholds = shipped_thresholds()
    assert 0 < thresholds.ask_at < thresholds.answer_at < 1


def test_questions_are_split_where_clauses_end() -> None:
    parts = split_questions("你好，发什么快递？几天到。谢谢", Normaliser())
    assert parts == ("发什么快递", "几天到")


def test_a_model_fitted_for_other_features_is_refused() -> None:
    with pytest.raises(ValueError, match="other features"):
        FusionModel.from_parts({"features": ["one"]}, {})


def test_the_shipped_model_serves_both_languages() -> None:
    model = shipped_model()
    assert set(model.fusions) == {"zh", "en"}
    assert model.of("other") is model.of("zh")


def test_a_large_knowledge_base_works_without_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.intents.index.LARGEST_VARIANTS", 10)
    matcher = build_matcher(snapshot())
    best = matcher.rank("我的包裹到哪儿了", scope=SCOPE).best
    assert best is not None
    assert best.entry_id == "track"


def test_reading_few_postings_still_finds_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.intents.index.LARGEST_VARIANTS", 10)
    monkeypatch.setattr("app.intents.postings.POSTINGS", 12)
    best = build_matcher(snapshot()).rank("我的快递到哪了", scope=SCOPE).best
    assert best is not None
    assert best.entry_id == "track"
