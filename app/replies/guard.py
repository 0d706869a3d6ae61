"""The outbound guard: the last look at a text before it may leave.

A bot's text that promises a result, names an amount nobody set, or carries contact or personal data is held and a human
takes over. An agent's text with any tone finding is shown back for confirmation. What the shop wrote into an entry as a
time or a rule is its own word and passes; what slots filled in comes from the shop or the order and is only looked at
for personal data.

Source: the design page, section 7 (outbound guard), and the domain rules, section 13.
"""

from __future__ import annotations

import re

from app.domain.tone import ToneFinding, lint

__all__ = ["Guard", "check_agent_text"]

_HELD = frozenset(
    {"guarantee", "private_contact", "personal_data", "review_reward", "review_change", "refund_reason"}
)
_TAGS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_AMOUNT = re.compile(
    r"(?<!满)(?:退款?|退还|赔|赔偿|赔付|补偿|补|返现|返|便宜|减免|优惠)(?:给)?(?:您|你)?(?:[^。！？!?；;，,满减\d]{0,6})(?:¥|￥)?\d+(?:\.\d+)?\s*(?:元|块|￥|¥|rmb)",
    re.IGNORECASE,
)
_PHONE = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)|(?<!\d)\d{17}[\dXx](?!\d)")
_LONG_NUMBER = re.compile(r"\d{11}")
"""Every personal number holds one, and it is much faster to look for."""
_CONTACT = re.compile(
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}|(?:微信|vx|v信|wechat|qq)(?:号)?[:： ]?\s*[A-Za-z0-9_-]{5,}",
    re.IGNORECASE,
)
_CACHE_LIMIT = 8192


class Guard:
    """Checks bot texts; what depends on the template alone is decided once for each template."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def held(self, source: str, text: str) -> str | None:
        """Return why a bot's text may not leave (a finding's code), or None.

        Args:
            source: the template it was written as.
            text: the same, filled in.
        """
        try:
            reason = self._known[source]
        except KeyError:
            reason = self._look(source)
        if reason is not None or text is source or text == source:
            return reason
        return "personal_data" if _LONG_NUMBER.search(text) and _PHONE.search(text) else None

    def _look(self, source: str) -> str | None:
        spoken = _TAGS.sub(" ", source)
        reason = next((finding.code for finding in lint(source) if finding.code in _HELD), None)
        if reason is None and _AMOUNT.search(spoken):
            reason = "amount"
        if reason is None and _CONTACT.search(spoken):
            reason = "private_contact"
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        self._known[source] = reason
        return reason


def check_agent_text(text: str) -> tuple[ToneFinding, ...]:
    """Return what an agent should confirm before a text is sent: tone findings, contact data, promised amounts."""
    findings = list(lint(text))
    codes = {finding.code for finding in findings}
    if (contact := _CONTACT.search(text)) and "private_contact" not in codes:
        findings.append(
            ToneFinding("private_contact", contact.group(), "沟通和付款都留在平台内，删掉联系方式")
        )
    if amount := _AMOUNT.search(text):
        findings.append(ToneFinding("amount", amount.group(), "金额须经过审批，请核对后再发"))
    return tuple(findings)
