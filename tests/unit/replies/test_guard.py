"""The outbound guard and the built-in texts."""

from __future__ import annotations

import pytest

from app.core.errors import ConfigurationError
from app.replies.guard import Guard, check_agent_text
from app.replies.texts import REQUIRED_TEXTS, TextBook
from tests.unit.replies.world import text_book


@pytest.mark.parametrize(
    ("source", "filled", "reason"),
    [
        ("我们发中通。", None, None),
        ("保证今天到。", None, "guarantee"),
        ("加微信聊", None, "private_contact"),
        ("赔您30元", None, "amount"),
        ("退款{{ order.total }}处理中", "退款129.00元处理中", None),
        ("最新物流：{{ order.shipments[0].latest }}", "最新物流：派件员13912345678", "personal_data"),
        ("最新物流：{{ order.shipments[0].latest }}", "最新物流：派件员139****5678", None),
        ("48小时内发出，一般3天左右到。", None, None),
    ],
)
def test_a_bot_text_is_held_for_what_nobody_may_promise_or_reveal(
    source: str, filled: str | None, reason: str | None
) -> None:
    guard = Guard()
    for _ in range(2):
        assert guard.held(source, filled or source) == reason


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("你好", "informal_you"),
        ("邮件a@b.cn联系", "private_contact"),
        ("补偿您20元", "amount"),
        ("全网最低价", "superlative"),
    ],
)
def test_an_agents_text_is_warned_about(text: str, code: str) -> None:
    assert code in {finding.code for finding in check_agent_text(text)}


def test_a_plain_agents_text_passes() -> None:
    assert check_agent_text("您好，已经帮您登记了，请稍等。") == ()


@pytest.mark.parametrize(("language", "text_id", "source"), list(text_book().items()))
def test_no_built_in_text_is_ever_held(language: str, text_id: str, source: str) -> None:
    assert Guard().held(source, source) is None


def test_every_text_the_policy_says_is_there_in_both_languages() -> None:
    book = text_book()
    for text_id in REQUIRED_TEXTS:
        assert book.get(text_id, "zh", {}) != book.get(text_id, "en", {})


def test_a_missing_built_in_text_is_found_at_start() -> None:
    complete = dict.fromkeys(REQUIRED_TEXTS, "好")
    with pytest.raises(ConfigurationError, match="threat"):
        TextBook.load({key: text for key, text in complete.items() if key != "threat"}, complete)
    with pytest.raises(ConfigurationError, match="is not a text"):
        TextBook.load(complete | {"hold": 3}, complete)


def test_overrides_win_per_language_and_an_unknown_language_hears_chinese() -> None:
    book = TextBook.load(dict.fromkeys(REQUIRED_TEXTS, "中"), dict.fromkeys(REQUIRED_TEXTS, "en"))
    own = {"hold": "自己的", "hold.en": "own"}
    assert book.get("hold", "zh", own) == "自己的"
    assert book.get("hold", "en", own) == "own"
    assert book.get("hold", "en", {"hold": "自己的"}) == "en"
    assert book.get("hold", "fr", {}) == "中"
