"""What Huoji ships to say: complete, in one tone, and free of anything a buyer should never read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.domain.knowledge import Answer, AnswerMode, Entry
from app.domain.tone import MAX_LENGTH, lint
from app.intents.normalise import Normaliser
from app.knowledge.files import LoadResult, load_entries
from app.knowledge.shipped import shipped_demo, shipped_knowledge, shipped_texts
from app.knowledge.shop_files import parse_shop
from app.replies.slots import KNOWN_SLOTS, Listing, Table
from app.replies.templates import TemplateSet, check_template
from app.replies.texts import REQUIRED_TEXTS, TextBook

MOST_COMMON = """
    greet_hello greet_anyone greet_is_bot close_thanks close_no_more close_bye small_talk shop_hours prod_detail
    prod_authentic prod_quality prod_usage prod_care prod_warranty prod_recommend prod_origin prod_shelf_life
    size_recommend size_chart size_fit mat_fabric stock_available stock_restock stock_presale price_ask price_bargain
    price_free_postage promo_current promo_coupon_get promo_coupon_fail promo_threshold promo_expired promo_stack
    gift_ask order_how order_confirm order_remark pay_method pay_fail pay_mismatch ship_when ship_urge
    ship_courier_which ship_courier_choose ship_eta ship_guarantee ship_postage ship_remote ship_from ship_tracking_no
    chg_address chg_receiver chg_spec chg_qty chg_cancel log_track log_stuck log_signed_missing log_lost
    as_policy as_return_nonquality as_return_quality as_exchange_size as_wrong_item as_missing_item
    as_damaged_signed as_postage_who as_refund_progress as_price_diff inv_issue inv_status cmp_service cmp_quality
    rev_how rev_bad_given acc_vip acc_login esc_human esc_legal esc_injury esc_anger esc_privacy esc_injection
""".split()
GRAVE = re.compile(r"^(?:cmp_|esc_legal|esc_injury|esc_anger|rev_bad_given|rev_followup)")
GRAVE_TEXTS = frozenset({"threat", "injury", "insult", "refund_overdue", "ship_overdue", "trace_stale"})
NEVER = (
    "看描述",
    "看详情页",
    "自己看",
    "系统错误",
    "系统故障",
    "保证到",
    "一定能到",
    "最低价",
    "你",
    "加微信",
)


@cache
def loaded() -> LoadResult:
    return load_entries([shipped_knowledge()])


@cache
def book() -> TextBook:
    return TextBook.load(read("texts/zh.yaml"), read("texts/en.yaml"))


def read(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((shipped_knowledge() / name).read_text("utf-8"))


def answers(entry: Entry) -> Iterator[Answer]:
    yield from entry.answers
    yield entry.default


def chinese(entry: Entry) -> Iterator[str]:
    yield from (answer.text for answer in answers(entry) if answer.text)
    if entry.fallback:
        yield entry.fallback


def english(entry: Entry) -> Iterator[str]:
    yield from (text.answer for text in entry.texts.values() if text.answer)


def every_slot() -> dict[str, Any]:
    """Facts with a plausible value in every slot a text may name."""
    facts: dict[str, Any] = {}
    for slot in sorted(KNOWN_SLOTS):
        parts = slot.replace("[0]", ".0").split(".")
        here = facts
        for part in parts[:-1]:
            here = here.setdefault(part, {})
        here.setdefault(parts[-1], sample(slot))
    return listed(facts)


def sample(slot: str) -> Any:
    last = slot.rsplit(".", 1)[-1]
    if last.endswith("_at") or last in ("end", "start", "eta", "restock_date"):
        return "2026-11-13T08:00:00Z"
    if last in ("price", "total", "postage", "amount"):
        return "129.00"
    if last in ("qty", "months", "window_days", "quantity", "bulk_qty"):
        return 7
    return {} if last in ("items", "shipments", "refunds") else "某某"


def listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"0"}:
        return Listing([listed(value["0"])])
    return Table({key: listed(item) for key, item in value.items()})


def test_the_files_load_without_a_problem_or_a_warning() -> None:
    assert [str(problem) for problem in loaded().problems] == []
    assert [str(warning) for warning in loaded().warnings] == []


def test_the_common_questions_have_entries() -> None:
    assert set(MOST_COMMON) <= {entry.id for entry in loaded().entries}
    assert len(loaded().entries) >= 150


def test_the_files_are_yaml_1_2_with_phrases_as_texts() -> None:
    for file in sorted(shipped_knowledge().glob("*.yaml")):
        content = read(file.name)
        if file.name == "synonyms.yaml":
            assert all(isinstance(word, str) for group in content for word in group["words"])
            continue
        for entry in content["entries"]:
            assert all(isinstance(variant, str) for variant in entry["variants"]), entry["id"]


def test_every_entry_has_at_least_eight_different_phrasings() -> None:
    for entry in loaded().entries:
        assert len({entry.question, *entry.variants}) >= 8, entry.id


def test_no_phrasing_stands_under_two_entries() -> None:
    normaliser = Normaliser()
    owners: dict[str, set[str]] = defaultdict(set)
    for entry in loaded().entries:
        texts = [entry.question, *entry.variants]
        texts += [p for text in entry.texts.values() for p in (text.question, *text.variants)]
        for phrase in texts:
            bare = re.sub(r"[呀呢啊哦哈亲吗嘛么吧啦咯呗\W]", "", phrase.lower())
            owners[bare or phrase].add(entry.id)
            owners["=" + normaliser.normalise(phrase)].add(entry.id)
    assert {phrase: ids for phrase, ids in owners.items() if len(ids) > 1} == {}


@pytest.mark.parametrize("entry", loaded().entries, ids=lambda entry: entry.id)
def test_an_entry_speaks_in_our_tone_and_names_known_slots(entry: Entry) -> None:
    kind = "complaint" if GRAVE.match(entry.id) else "answer"
    for text in chinese(entry):
        assert lint(text, kind=kind) == (), text
        assert not any(word in text for word in NEVER), text
        assert set(check_template(text)) <= KNOWN_SLOTS
    for text in english(entry):
        assert lint(text, kind=kind) == (), text
        assert set(check_template(text)) <= KNOWN_SLOTS


@pytest.mark.parametrize("entry", loaded().entries, ids=lambda entry: entry.id)
def test_an_answer_with_every_fact_at_hand_is_whole_and_short(entry: Entry) -> None:
    facts, templates = every_slot(), TemplateSet()
    for text in (*chinese(entry), *english(entry)):
        said = templates.render(text, facts)
        assert said.strip()
        assert "{" not in said
        assert len(said) <= (MAX_LENGTH if text in tuple(chinese(entry)) else 2 * MAX_LENGTH)


def test_what_asks_for_missing_things_needs_nothing_itself() -> None:
    for entry in loaded().entries:
        if entry.fallback:
            assert set(check_template(entry.fallback)) <= {"product.title"}, entry.id
            assert TemplateSet().render(entry.fallback, {}).strip(), entry.id


def test_a_known_product_is_not_asked_for_again() -> None:
    facts = {"product": {"title": "某某"}}
    for entry in loaded().entries:
        if "product" in entry.needs and entry.fallback:
            assert "哪一款" not in TemplateSet().render(entry.fallback, facts), entry.id


def test_an_entry_that_cannot_do_without_an_order_or_a_product_can_ask_for_it() -> None:
    for entry in loaded().entries:
        if entry.needs:
            assert entry.fallback, entry.id


def test_an_order_slot_is_used_only_where_an_order_is_at_hand() -> None:
    for entry in loaded().entries:
        for answer in answers(entry):
            uses_order = any(slot.startswith("order.") for slot in check_template(answer.text or ""))
            knows_order = "order" in entry.needs or (
                answer.when is not None and (answer.when.order_status or answer.when.order_overdue)
            )
            assert not uses_order or knows_order, entry.id


def test_after_sales_apologises_before_it_states_facts() -> None:
    for entry_id in (
        "as_return_quality", "as_exchange_quality", "as_wrong_item", "as_missing_item", "as_damaged_signed",
        "as_not_as_described", "log_stuck", "log_signed_missing", "log_lost", "log_wrong_recipient",
    ):  # fmt: skip
        entry = next(entry for entry in loaded().entries if entry.id == entry_id)
        for text in chinese(entry):
            assert text.startswith("非常抱歉"), entry_id


def test_a_fault_is_collected_with_photos_and_opens_a_case() -> None:
    for entry_id in ("as_return_quality", "as_wrong_item", "as_missing_item", "as_damaged_signed"):
        entry = next(entry for entry in loaded().entries if entry.id == entry_id)
        assert entry.default.mode is AnswerMode.ESCALATE
        assert entry.default.group == "aftersale"
        assert entry.default.case is not None
        assert entry.default.text is not None
        assert "照片" in entry.default.text


def test_thirty_entries_and_more_speak_english() -> None:
    spoken = [entry for entry in loaded().entries if "en" in entry.texts]
    assert len(spoken) >= 30
    for entry in spoken:
        assert entry.texts["en"].answer, entry.id
        said = TemplateSet().render(entry.texts["en"].answer, every_slot()).replace("某某", "")
        assert not re.search(r"[\u4e00-\u9fff]", said), entry.id


def test_the_built_in_texts_are_complete_in_both_languages() -> None:
    zh, en = read("texts/zh.yaml"), read("texts/en.yaml")
    assert set(zh) == set(en) >= set(REQUIRED_TEXTS)
    assert all(text["note"] for text in zh.values())


def test_the_built_in_texts_speak_in_our_tone_and_declare_their_slots() -> None:
    texts = {"zh": read("texts/zh.yaml"), "en": read("texts/en.yaml")}
    for language, text_id, text in book().items():
        kind = "complaint" if text_id in GRAVE_TEXTS else "answer"
        assert lint(text, kind=kind) == (), text_id
        assert not any(word in text for word in NEVER), text_id
        used = set(check_template(text))
        assert used <= KNOWN_SLOTS
        assert used == set(texts[language][text_id].get("slots", ())), text_id


def test_the_demo_shops_are_valid_and_speak_in_our_tone() -> None:
    shops = YAML(typ="safe", pure=True).load((shipped_demo() / "shops.yaml").read_text("utf-8"))["shops"]
    assert len(shops) == 2
    for settings in shops:
        policy = parse_shop(settings["shop_id"], {k: v for k, v in settings.items() if k != "shop_id"})
        assert 6 <= len(policy.facts["catalog"]) <= 8
        assert policy.hours
        for text in strings(policy.facts):
            assert lint(text) == (), text


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if not re.fullmatch(r"[\w.:+-]+", value, re.ASCII):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def test_a_synonym_stands_in_one_group_only() -> None:
    words = [word for group in loaded().synonyms for word in group.words]
    assert len(loaded().synonyms) >= 60
    assert len(words) == len(set(words))


def test_the_texts_folder_is_found_beside_the_knowledge() -> None:
    assert {file.stem for file in shipped_texts().glob("*.yaml")} == {"zh", "en"}
