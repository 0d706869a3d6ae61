"""Masking of personal data: phones, identity cards, bank cards, mail addresses. For logs and for what agents see."""

from __future__ import annotations

import re

__all__ = ["mask_address", "mask_name", "mask_phone", "mask_text"]

_PHONE = re.compile(r"(?<!\d)(?:\+?86[- ]?)?(1[3-9]\d)[- ]?(\d{4})[- ]?(\d{4})(?!\d)")
_IDENTITY = re.compile(r"(?<![\dA-Za-z])(\d{6})\d{8}(\d{3}[\dXx])(?![\dA-Za-z])")
_CARD = re.compile(r"(?<!\d)(\d{4})\d{8,11}(\d{4})(?!\d)")
_MAIL = re.compile(r"([A-Za-z0-9._%+-])[A-Za-z0-9._%+-]*@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_STREET = re.compile(
    r"([一-鿿]{1,12}(?:路|街|道|巷|弄|村|小区|大厦|花园|公寓))\s*[0-9A-Za-z一-鿿\-#]{0,20}(?:号|栋|幢|座|单元|室|楼)"
)
_REGION = re.compile(r"^(.{2,9}?(?:省|自治区|市))?(.{1,8}?(?:市|州|盟|区|县))?")


def mask_text(text: str) -> str:
    """Return the text with every phone, identity card, bank card, mail and street address masked."""
    text = _PHONE.sub(r"\1****\3", text)
    text = _IDENTITY.sub(r"\1********\2", text)
    text = _CARD.sub(r"\1********\2", text)
    text = _MAIL.sub(r"\1***@\2", text)
    return _STREET.sub("***", text)


def mask_phone(phone: str) -> str:
    """Mask the middle of a phone number: 139****1111. A masked one stays as it is."""
    digits = phone.strip()
    if "*" in digits or len(digits) < 7:
        return digits
    return f"{digits[:3]}****{digits[-4:]}"


def mask_name(name: str) -> str:
    """Keep the family name: 陈*."""
    name = name.strip()
    return name if "*" in name or not name else name[0] + "*" * max(1, min(2, len(name) - 1))


def mask_address(address: str) -> str:
    """Keep province and city, hide the rest: 浙江省杭州市***."""
    if "*" in address:
        return address
    found = _REGION.match(address.strip())
    region = found.group(0) if found else ""
    return f"{region or address[:3]}***"
