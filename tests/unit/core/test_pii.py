"""Masking of personal data."""

import pytest

from app.core.pii import mask_address, mask_name, mask_phone, mask_text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("我的电话13912341111急", "我的电话139****1111急"),
        ("打 139-1234-1111", "打 139****1111"),
        ("+86 13912341111", "139****1111"),
        ("身份证33010219900101123X", "身份证330102********123X"),
        ("卡号6222021234567890123", "卡号6222********0123"),
        ("写信到 wang.xm@example.com", "写信到 w***@example.com"),
        ("订单 2611205698 到哪了", "订单 2611205698 到哪了"),
        ("买2件, 100元", "买2件, 100元"),
    ],
)
def test_phones_cards_and_mails_are_masked_and_order_numbers_are_not(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_a_street_address_is_masked() -> None:
    assert "文三路" not in mask_text("寄到杭州市西湖区文三路 138 号")
    assert "138" not in mask_text("寄到杭州市西湖区文三路 138 号")


def test_what_is_masked_stays_masked() -> None:
    assert mask_phone("139****1111") == "139****1111"
    assert mask_name("陈*") == "陈*"
    assert mask_address("浙江省杭州市***") == "浙江省杭州市***"


def test_names_and_addresses_keep_what_helps_and_no_more() -> None:
    assert mask_name("陈晓明") == "陈*"
    assert mask_phone("13912341111") == "139****1111"
    assert mask_address("浙江省杭州市西湖区文三路138号") == "浙江省杭州市***"
