"""Texts made comparable."""

from __future__ import annotations

import pytest

from app.intents.normalise import Normaliser, is_social, language_of

NORMALISER = Normaliser()


@pytest.mark.parametrize(
    ("written", "comparable"),
    [
        ("亲，什么时候发货呀？", "什么时候发货"),
        ("請問什麼時候發貨", "什么时候发货"),
        ("ＡＢＣ１２", "abc12"),
        ("快递到哪了😡😡[微笑]", "快递到哪了"),
        ("在\u200b吗", "在吗"),
        ("好好好好好", "好"),
        ("看这个 https://example.com/x?a=1 多少钱", "看这个多少钱"),
        ("订单123456789012到哪了", "订单到哪了"),
        ("訂單(dān)到哪了", "订单到哪了"),
        ("有货吗", "有货吗"),
        ("有货么", "有货么"),
        ("什么时候发货谢谢你", "什么时候发货"),
        ("Hello,  World!", "hello world"),
        ("h\u0301\u0301\u0301\u0301ello", "hello"),
        ("亲子装有吗", "亲子装有吗"),
        ("\ud800你好", "你好"),
    ],
)
def test_what_says_nothing_is_dropped(written: str, comparable: str) -> None:
    assert NORMALISER.normalise(written) == comparable


@pytest.mark.parametrize("written", ["哦", "亲", "请问", "谢谢", "哈哈哈"])
def test_a_text_of_nothing_but_courtesy_keeps_something(written: str) -> None:
    assert NORMALISER.normalise(written)


@pytest.mark.parametrize(
    "written", ["", "   ", "？？？", "😂😂", "[图片]", "https://example.com", "13800138000"]
)
def test_a_text_without_content_becomes_empty(written: str) -> None:
    assert NORMALISER.normalise(written) == ""


@pytest.mark.parametrize("text", ["你好", "谢谢", "好的谢谢", "在吗", "ok", "再见", "你好在吗"])
def test_courtesy_is_social(text: str) -> None:
    assert is_social(text)


@pytest.mark.parametrize("text", ["", "什么时候发货", "好的那什么时候发货", "在哪里"])
def test_content_is_not_social(text: str) -> None:
    assert not is_social(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("什么时候发货", "zh"),
        ("iphone什么时候发", "zh"),
        ("where is it", "en"),
        ("12315", "other"),
        ("", "other"),
        ("𠮷", "zh"),
    ],
)
def test_language_goes_by_script(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("fahuo le ma", "zh"),
        ("kuaidi dao na le", "zh"),
        ("ni hao", "zh"),
        ("where is my parcel", "en"),
        ("can you", "en"),
        ("hello", "en"),
        ("ok", "en"),
        ("123", "other"),
    ],
)
def test_pinyin_is_chinese(text: str, language: str) -> None:
    assert language_of(text) == language
