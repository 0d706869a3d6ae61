"""Shop settings: defaults, facts, and refusals that name the field and the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidError
from app.domain.shops import HoursSpan, ShopMode, ShopPolicy
from app.knowledge.shop_files import parse_shop, read_shop_file, setting_from_text
from app.knowledge.shop_settings import misspelt_setting
from app.replies.slots import KNOWN_SLOTS

SHOP: dict[str, Any] = {
    "name": "示例服饰店",
    "platform": "tmall",
    "tz": "Asia/Shanghai",
    "hours": {"presale": ["08:30-01:00"], "aftersale": ["09:00-12:00", "13:00-24:00"], "supervisor": []},
    "courier": "中通快递",
    "postage": 8,
    "ship_cutoff": "16:00",
    "promos": [
        {"name": "周年庆", "rule": "满300减30", "start": "2026-11-10", "end": "2026-11-15T23:59:59+08:00"}
    ],
    "vip_tiers": ["gold", "diamond"],
    "return_window_days": 7,
    "catalog": [{"product_id": "P-1", "title": "围巾", "price": 89, "stock": {"红色": 30}}],
    "slogan": "慢慢挑",
}


def problem_of(settings: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(InvalidError) as caught:
        parse_shop("s1", settings)
    first = caught.value.errors[0]
    return first.field, f"{first.message} {first.fix}"


def test_a_shop_without_settings_has_the_defaults() -> None:
    assert parse_shop("s1", {}) == ShopPolicy(id="s1", name="s1")


def test_settings_and_facts_are_told_apart() -> None:
    shop = parse_shop("s1", SHOP, version=4)
    assert (shop.id, shop.name, shop.version) == ("s1", "示例服饰店", 4)
    assert shop.vip_tiers == {"gold", "diamond"}
    assert shop.hours["presale"] == (HoursSpan(510, 60),)
    assert shop.hours["aftersale"] == (HoursSpan(540, 720), HoursSpan(780, 1440))
    assert shop.hours["supervisor"] == ()
    assert shop.facts == {
        key: SHOP[key]
        for key in ("platform", "courier", "postage", "ship_cutoff", "promos", "catalog", "slogan")
    }


def test_settings_typed_on_a_command_line_are_read() -> None:
    typed = {
        "mode": "Shadow",
        "repeat_guard": "off",
        "vip_tiers": "gold, diamond",
        "loop_guard": "0",
        "name": "2024",
        "welcome": "true",
        "hours": '{"presale": "09:00-18:00"}',
        "answer_at": "null",
    }
    shop = parse_shop("s1", {key: setting_from_text(key, text) for key, text in typed.items()})
    assert (shop.mode, shop.repeat_guard, shop.loop_guard) == (ShopMode.SHADOW, False, 0)
    assert (shop.name, shop.welcome, shop.answer_at) == ("2024", "true", None)
    assert shop.vip_tiers == {"gold", "diamond"}
    assert shop.hours["presale"] == (HoursSpan(540, 1080),)


def test_an_empty_welcome_means_none_and_an_unset_one_the_built_in_text() -> None:
    assert parse_shop("s1", {"welcome": ""}).welcome == ""
    assert parse_shop("s1", {}).welcome is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1.0, 3.0)),
        ({"burst_quiet": 0}, (0.0, 3.0)),
        ({"burst_quiet": 5}, (5.0, 5.0)),
        ({"burst_max": 0.5}, (0.5, 0.5)),
        ({"burst_quiet": 2, "burst_max": 9}, (2.0, 9.0)),
    ],
)
def test_burst_times_come_from_the_process_where_the_shop_sets_none(
    settings: dict[str, Any], expected: tuple[float, float]
) -> None:
    shop = parse_shop("s1", settings, burst_quiet=1.0, burst_max=3.0)
    assert (shop.burst_quiet, shop.burst_max) == expected


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"burst_quite": 1}, "burst_quite", "did you mean burst_quiet?"),
        ({"burstQuiet": 1}, "burstQuiet", "did you mean burst_quiet?"),
        ({"promo": []}, "promo", "did you mean promos?"),
        ({"hours": {"presale": ["08:00-25:00"]}}, "hours", "the last one is 24:00"),
        ({"hours": {"presale": ["08:00"]}}, "hours", "write it like 08:30-18:00"),
        ({"hours": {"presale": ["08:00-08:00"]}}, "hours", "00:00-24:00"),
        ({"hours": {"presale": ["08:00-12:00", "11:00-18:00"]}}, "hours", "overlap"),
        ({"hours": {"presale": ["22:00-06:00", "05:00-08:00"]}}, "hours", "overlap"),
        ({"hours": {"presales": ["08:00-12:00"]}}, "hours", "did you mean presale?"),
        ({"hours": ["08:00-12:00"]}, "hours", "must map groups"),
        ({"tz": "Shanghai"}, "tz", "did you mean Asia/Shanghai?"),
        ({"tz": "Asia/Shanghia"}, "tz", "did you mean Asia/Shanghai?"),
        ({"tz": "../etc/passwd"}, "tz", "no time zone"),
        ({"mode": "automatic"}, "mode", "supervised"),
        ({"loop_guard": -1}, "loop_guard", "at least 0"),
        ({"loop_guard": "many"}, "loop_guard", "no whole number"),
        ({"answer_at": 1.2}, "answer_at", "at most 1"),
        ({"answer_at": 0.5, "ask_at": 0.6}, "ask_at", "at most 0.5"),
        ({"burst_quiet": 5, "burst_max": 2}, "burst_max", "at least 5"),
        ({"repeat_guard": "maybe"}, "repeat_guard", "on or off"),
        ({"name": " "}, "name", "1 character"),
        ({"ship_cutoff": "4pm"}, "ship_cutoff", "08:30"),
        ({"promos": [{"rule": "x"}]}, "promos.0.name", "missing"),
        ({"promos": [{"name": "x", "end": "soon"}]}, "promos.0.end", "no date"),
        (
            {"catalog": [{"product_id": "P", "title": "a"}, {"product_id": "P", "title": "b"}]},
            "catalog",
            "twice",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_field_and_fix(
    settings: dict[str, Any], field: str, said: str
) -> None:
    where, told = problem_of(settings)
    assert where == field
    assert said in told


@pytest.mark.parametrize("fact", ["welcome_en", "brand_story", "return_address", "gift_wrap_price", "tx"])
def test_a_name_of_the_shops_own_is_a_fact(fact: str) -> None:
    assert parse_shop("s1", {fact: "x"}).facts == {fact: "x"}


def test_no_fact_that_templates_know_counts_as_a_slip() -> None:
    roots = ("shop.", "promo.")
    facts = {slot.split(".")[1] for slot in KNOWN_SLOTS if slot.startswith(roots)}
    assert {fact: misspelt_setting(fact) for fact in facts if misspelt_setting(fact)} == {}


def test_every_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(InvalidError) as caught:
        parse_shop("s1", {"mode": "x", "tz": "y", "burst_quite": 1})
    assert {problem.field for problem in caught.value.errors} == {"mode", "tz", "burst_quite"}
    assert "and 2 more" in caught.value.message


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".yaml"])
def test_a_shop_object_is_read_from_a_file_or_from_a_scenarios_line(
    tmp_path: Path, suffix: str, wrapped: bool
) -> None:
    file = tmp_path / f"shop{suffix}"
    line = json.dumps({"id": "EX", "shop": SHOP} if wrapped else SHOP, ensure_ascii=False)
    file.write_text(line + "\n" + (line + "\n" if suffix == ".jsonl" else ""), "utf-8")
    assert read_shop_file(file) == SHOP


@pytest.mark.parametrize(("name", "content"), [("a.json", "{"), ("a.json", "[]"), ("a.yaml", "a: [")])
def test_a_file_without_a_shop_object_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidError, match=name):
        read_shop_file(tmp_path / name)


def test_a_missing_shop_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="nowhere"):
        read_shop_file(tmp_path / "nowhere.json")
