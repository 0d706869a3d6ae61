"""Built-in texts: what the bot says when a rule or a node speaks, not a knowledge entry.

A text has an id and one wording per language; a shop may override any of them. Wordings are templates like every
answer. Which ids the policy needs is written down here, so that a missing one is found when the program starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from app.core.errors import ConfigurationError

__all__ = ["REQUIRED_TEXTS", "TextBook"]

REQUIRED_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "welcome": "prefix of a session's first answer",
        "group_closed": "the group has closed while others are on duty; names its working hours",
        "transfer": "a human was asked for (E3) or is needed",
        "off_hours": "a human is needed and nobody of the group is on duty; names the working hours",
        "queue_wait": "the buyer asks for a human again while already waiting",
        "vip_service": "added to an escalation of a VIP buyer (E12)",
        "hold": "the bot cannot answer and hands over (E7)",
        "passed_on": "what was asked for has come and a fact is still missing, then a human",
        "clarify": "first question that was not understood",
        "clarify_delivery": "the same, about shipping or delivery",
        "clarify_aftersale": "the same, about returns, repairs or refunds",
        "clarify_invoice": "the same, about invoices",
        "clarify_price": "the same, about prices and promotions",
        "clarify_order": "the same, about an order or a payment",
        "data_noted": "bare data arrived without a word about what for",
        "listening": "the buyer only calls, and has been welcomed",
        "acknowledge": "the buyer says ok and nothing is open",
        "thanked": "the buyer says thanks and no entry answers that",
        "ask_back": "leads the numbered list of likely questions",
        "ask_back_one": "one likely question; slot choice.title",
        "order_which": "leads the numbered list of orders",
        "order_none": "an order is needed and the buyer has none here",
        "order_not_found": "a typed order number is not one of the buyer's",
        "order_not_found_again": "the second miss, then a human (E13)",
        "orders_unavailable": "orders cannot be looked up now",
        "order_noted": "an order card arrived without a question",
        "product_noted": "a product card arrived without a question",
        "repeated": "the same text for the third time, then a human (E14)",
        "threat": "legal or public threat (E1)",
        "injury": "injury or danger (E2)",
        "insult": "anger or insult (E4)",
        "privacy_refusal": "another person's data was asked for (E10)",
        "privacy_again": "asked for again, then a supervisor (E10)",
        "injection_refusal": "commands to the assistant (E11)",
        "image_aftersale": "picture or video with a shipped order (E8)",
        "image_which_item": "picture or video without an order (E8)",
        "media_human": "second message in a row that is no text (E8, E9)",
        "voice_as_text": "voice or an unknown kind (E9)",
        "blank_as_text": "a message without any text in it (answered as E9)",
        "emoji_friendly": "nothing but friendly emoji",
        "bargain_promo": "second bargaining request; slots promo.name, promo.rule",
        "bargain_gift": "second bargaining request without a promotion; slot promo.gift",
        "bargain_human": "third bargaining request or a large quantity, then presale",
        "apology": "put before a collecting text that a rule demands an apology for",
        "trace_stale": "the last trace is too old, then aftersale",
        "ship_overdue": "the promised shipping time has passed, then aftersale (E17)",
        "ship_pending": "not shipped yet, asked for the parcel; slot order.promised_ship_at",
        "ship_pending_plain": "not shipped yet, and no promised time is known",
        "refund_overdue": "refund rejected or late, then aftersale (E17)",
        "refund_none": "the order has no refund",
        "order_data_stale": "added when the order data could not be refreshed",
        "language_unavailable": "polite line to a buyer in a language the answer lacks, then a human",
    }
)
"""Text ids the policy uses, each with the moment it is said."""


class TextBook:
    """The built-in texts in every language."""

    def __init__(self, by_language: Mapping[str, Mapping[str, str]]) -> None:
        """Take the wordings by language and id. ``load`` is the checked way in."""
        self._by_language = {language: dict(texts) for language, texts in by_language.items()}

    @classmethod
    def load(cls, zh: Mapping[str, object], en: Mapping[str, object]) -> TextBook:
        """Read both languages' mappings of id → text (or → mapping with a ``text``).

        Raises:
            ConfigurationError: an id the policy needs is missing in a language, or a wording is no text.
        """
        return cls({"zh": _read("zh", zh), "en": _read("en", en)})

    def get(self, text_id: str, language: str, overrides: Mapping[str, str]) -> str:
        """Return a text's template: the shop's own wording, else the language's, else the Chinese one.

        An override for one language only has the key ``id.language``; a plain ``id`` is the Chinese wording.

        Raises:
            KeyError: no such text.
        """
        if overrides:
            if language != "zh":
                if (own := overrides.get(f"{text_id}.{language}")) is not None:
                    return own
            elif (own := overrides.get(text_id)) is not None:
                return own
        texts = self._by_language.get(language)
        if texts is not None and (text := texts.get(text_id)) is not None:
            return text
        return self._by_language["zh"][text_id]

    def items(self) -> Iterator[tuple[str, str, str]]:
        """Yield (language, id, wording) of every text, for the linter and the template check."""
        for language, texts in self._by_language.items():
            for text_id, text in texts.items():
                yield language, text_id, text


def _read(language: str, texts: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text_id, value in texts.items():
        if isinstance(value, Mapping):
            value = value.get("text")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(value, str):
            raise ConfigurationError(f"built-in text {text_id!r} ({language}) is not a text")
        found[text_id] = value.strip("\n")
    missing = [text_id for text_id in REQUIRED_TEXTS if text_id not in found]
    if missing:
        raise ConfigurationError(f"built-in texts ({language}) lack: {', '.join(missing)}")
    return found
