"""Hiding who and where a receiver is, until an agent asks. Masking what is masked changes nothing.

Source: the contracts page, section 5.
"""

from __future__ import annotations

import re

__all__ = ["mask_address", "mask_name", "mask_phone"]

_DIGITS = re.compile(r"\d")
_HIDDEN = "***"

_PROVINCE = r"[\u4e00-\u9fff]{2,8}?(?:省|自治区|特别行政区)"
_CITY = r"[\u4e00-\u9fff]{2,8}?(?:市|自治州|地区|盟)"
_MUNICIPALITY = r"(?:北京|上海|天津|重庆)市?"
_REGION = re.compile(rf"\s*(?:{_MUNICIPALITY}|{_PROVINCE}\s*(?:{_CITY})?|{_CITY})")


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
