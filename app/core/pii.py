"""Masking of personal data: phones, identity cards, bank cards, mail addresses. For logs and for what agents see."""

from __future__ import annotations

import re

__all__ = ["mask_address", "mask_name", "mask_phone", "mask_text"]

_PHONE = re.compile(r"(?<!\d)(?:\+?86[- ]?)?(1[3-9]\d)[- ]?(\d{4})[- ]?(\d{4})(?!\d)")
_IDENTITY = re.compile(r"(?<![\dA-Za-z])(\d{6})\d{8}(\d{3}[\dXx])(?![\dA-Za-z])")
_CARD = re.compile(r"(?<!\d)(\d{4})\d{8,11}(\d{4})(?!\d)")
_DIGITS = re.compile(r"\d")
_HIDDEN = "***"
_MAIL = re.compile(r"([A-Za-z0-9._%+-])[A-Za-z0-9._%+-]*@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_STREET = re.compile(
    r"[\u4e00-\u9fff]{1,8}(?:路|街|大道|巷|弄|小区|花园|公寓|大厦)\s*[0-9]+[0-9A-Za-z\-号栋幢座单元室楼层 ]*"
)
_PROVINCE = r"[\u4e00-\u9fff]{2,8}?(?:省|自治区|特别行政区)"
_CITY = r"[\u4e00-\u9fff]{2,8}?(?:市|自治州|地区|盟)"
_MUNICIPALITY = r"(?:北京|上海|天津|重庆)市?"
_REGION = re.compile(rf"\s*(?:{_MUNICIPALITY}|{_PROVINCE}\s*(?:{_CITY})?|{_CITY})")


def mask_text(text: str) -> str:
    """Return the text with every phone, identity card, bank card, mail and street address masked."""
    text = _PHONE.sub(r"\1****\3", text)
    text = _IDENTITY.sub(r"\1********\2", text)
    text = _CARD.sub(r"\1********\2", text)
    text = _MAIL.sub(r"\1***@\2", text)
    return _STREET.sub("***", text)


def mask_name(name: str) -> str:
    """Return the first character and a star: 陈小明 becomes 陈*."""
    name = name.strip()
    return f"{name[0]}*" if name else ""


def mask_phone(phone: str) -> str:
    """Return the first three and last four digits, whatever stands between them: 139****1111."""
    if "*" in phone:
        return phone
    digits = "".join(_DIGITS.findall(phone))
    if len(digits) == 13:
        # 86 in front of a mobile number says nothing about the person, and nothing to the buyer.
        digits = digits.removeprefix("86")
    if len(digits) < 8:
        return "****" if digits else ""
    return f"{digits[:3]}****{digits[-4:]}"


def mask_address(address: str) -> str:
    """Return province and city: 浙江省杭州市西湖区… becomes 浙江省杭州市***. An address of another shape is hidden whole."""
    if not address.strip():
        return ""
    region = _REGION.match(address)
    return f"{region[0].strip() if region else ''}{_HIDDEN}"
