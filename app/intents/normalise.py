"""Texts made comparable: width, case, script, marks, repeats, politeness and particles out of the way.

The shop's phrasings and the buyers' messages go through the same normalisation, so what it drops it drops on both
sides. It never decides anything; the raw text stays as the buyer wrote it.

Source: the domain rules on text handling; the measurements on matching, normalisation and noise.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final, Protocol

__all__ = ["LONGEST_TEXT", "Normaliser", "is_social", "language_of"]

LONGEST_TEXT: Final = 8_000
"""Characters of a message that are read; the rest is stored but not matched."""

_UNWANTED_MARKS = re.compile(
    r"https?://\S+|www\.\S+"  # links
    r"|\[[^\[\]\n]{1,16}\]|【图片】"  # a platform's codes for emoji, pictures and masked values
    r"|#e-s?\d*|/:[a-z()~@$!*<>,.|?-]{1,8}|&[a-z]{2,6};|<[a-z/][^<>]{0,40}>"  # older emoji codes, entities and tags
    r"|(?<=[㐀-鿿])\([a-zāáǎàēéěèīíǐìōóǒòūúǔùǖǘǚǜü ]{1,8}\)"  # a reading glued to its character
)
_MAY_HAVE_MARKS = re.compile(r"[\[【#/&<(]|www\.")
# Order, tracking and phone numbers name a thing; they say nothing about what is asked.
_LONG_NUMBER = re.compile(r"(?:[a-z]{2})?\d{7,}")
_NOT_WORD = re.compile(r"[\W_]+")
_NEEDLESS_SPACE = re.compile(r"(?<=[^\x00-\x7f]) +| +(?=[^\x00-\x7f])")
_REPEAT = re.compile(r"([^\d\s]|[^\d\s]{2,4}?)\1{2,}")
# What anything that ``_REPEAT`` drops matches too, found in a fraction of the time.
_MAY_REPEAT = re.compile(r"(.{1,4}?)\1\1", re.DOTALL)
_PARTICLES = re.compile("[呀呢啊哦哈哟噢啦咯喔嘞]+")
_OPENING = re.compile(
    r"(?:亲爱的|亲(?![子人戚自近密])|老板娘?|掌柜的?|店家|店主|小姐姐|小哥哥|美女|帅哥"
    r"|请?(?:我?想)?(?:请问|问|咨询|请教|了解)(?:一?下)|请问|[你您]好(?![像多])|哈喽|嗨|麻烦问)+"
)
_CLOSING = re.compile(r"(?<=..)(?:谢谢|多谢|感谢|谢)(?:[你您了]*)$")
_PLAIN = re.compile(r"[一-鿿a-z0-9]*")
# Characters of no width, and marks stacked on letters.
_INVISIBLE: Final = dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD, *range(0x300, 0x370)])
_SURROGATE = re.compile("[\ud800-\udfff]")
_CHINESE = re.compile("[㐀-鿿豈-\ufaff\U00020000-\U0003ffff]")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ']+")
_PINYIN = re.compile(
    r"(?:(?:zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])"
    r"(?:iang|iong|uang|ang|eng|ing|ong|ian|iao|uai|uan|ai|an|ao|ei|en|ia|ie|in|iu|ou|ua|ue|ui|un|uo|a|e|i|o|u|v)"
    r"|ai|an|ang|ao|er|en|e|a|o|ou)+"
)
_ALSO_ENGLISH = frozenset(
    "a an bang ban can dan dang die do fan fun gun he hen hi ha la lie long me men ma mama mine nine no pan pin ping "
    "pie run sang see she so sun tan tie to wan we women you".split()
)

_SOCIAL = re.compile(
    r"(?:[你您]好|在吗|在么|在嘛|在不在|在不|在|有人吗|有人么|有人在吗|有人在|客服在吗|客服|hello|hi|嗨|哈喽|喂"
    r"|早上好|上午好|中午好|下午好|晚上好|早安|晚安|早|亲|老板|请问|请问一下|想问一下|我想问一下|问一下"
    r"|谢谢|多谢|感谢|谢|非常感谢|十分感谢|太感谢|万分感谢|麻烦[你您]|麻烦|辛苦|辛苦[你您]|thanks|thx|thank you|3q"
    r"|好的|好滴|好哒|好吧|好嘞|好|嗯嗯|嗯|恩恩|恩|哦|噢|呵呵|哈哈|嘿嘿|行吧|行|ok|okay|okk|可以的|知道|明白|收到|了解|清楚|晓得"
    r"|再见|拜拜|拜|bye|没事|没关系|不客气|不好意思|[你您们]|那|先|就这样|了|的|啊|吧|，| )+"
)


class _Converter(Protocol):
    """The part of OpenCC used here."""

    def convert(self, text: str) -> str:
        """Return the text in simplified characters."""
        ...


class Normaliser:
    """Makes texts comparable. Build one and share it: it loads the script converter (12 ms) when first needed."""

    __slots__ = ("_converter",)

    def __init__(self) -> None:
        self._converter: _Converter | None = None

    def normalise(self, text: str) -> str:
        """Return the comparable form of a text; normalising it again changes nothing.

        Only the first 8,000 characters are read. Empty only when the text holds no letter or digit at all, or nothing
        but links, codes and long numbers.
        """
        text = text[:LONGEST_TEXT]
        if _PLAIN.fullmatch(text):
            return self._shortened(self._simplified(text))
        once = self._pass(text)
        for _ in range(8):
            again = self._pass(once)
            if again == once:
                break
            once = again
        return once

    def _pass(self, text: str) -> str:
        """Everything to be done once."""
        if not text.isascii():
            text = self._simplified(unicodedata.normalize("NFKC", text).translate(_INVISIBLE))
        text = text.lower()
        if _MAY_HAVE_MARKS.search(text) or "http" in text:
            text = _UNWANTED_MARKS.sub(" ", text)
        text = _NOT_WORD.sub(" ", text).strip()
        if " " in text and not text.isascii():
            text = _NEEDLESS_SPACE.sub("", text)
        return self._shortened(text)

    def _shortened(self, text: str) -> str:
        """Drop what says nothing from a text of letters, digits and spaces."""
        if _PARTICLES.search(text):
            text = _PARTICLES.sub("", text) or text
        if not text.isalpha():
            text = _LONG_NUMBER.sub("", text).strip()
        if _MAY_REPEAT.search(text):
            text = _REPEAT.sub(r"\1", text)
        opening = _OPENING.match(text)
        if opening is not None:
            text = text[opening.end() :].strip() or text
        if "谢" in text:
            text = _CLOSING.sub("", text)
        return text

    def _simplified(self, text: str) -> str:
        try:
            # GB 2312 holds simplified characters only, so what it can encode needs no conversion.
            text.encode("gb2312")
        except UnicodeEncodeError:
            if not _CHINESE.search(text):
                return text
            if self._converter is None:
                self._converter = _load_converter()
            return self._converter.convert(_SURROGATE.sub(" ", text))
        return text


def _load_converter() -> _Converter:
    # Loaded on first use: most shops' buyers write simplified characters, and the import takes longer than a start
    # should wait for.
    import opencc

    factory: Any = opencc.OpenCC
    return factory("t2s")


def is_social(normalised: str) -> bool:
    """Whether a normalised text is nothing but greeting, thanks, acknowledgement or farewell."""
    # The pattern's words overlap, so only short texts are tried: a long courtesy reads as content.
    return 0 < len(normalised) <= 24 and _SOCIAL.fullmatch(normalised) is not None


def language_of(text: str) -> str:
    """Return ``zh`` for Chinese characters or pinyin, ``en`` for other Latin letters, else ``other``."""
    if _CHINESE.search(text):
        return "zh"
    words = _LATIN_WORD.findall(text)
    if not words:
        return "other"
    return "zh" if _is_pinyin(words) else "en"


def _is_pinyin(words: list[str]) -> bool:
    """Whether Latin words are Chinese typed without an input method ('fahuo le ma')."""
    lowered = [word.lower() for word in words]
    return (
        len(lowered) > 1
        and all(_PINYIN.fullmatch(word) for word in lowered)
        and any(word not in _ALSO_ENGLISH for word in lowered)
    )
