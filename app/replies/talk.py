"""Messages that only keep a talk going: acknowledgements, a laugh, 'let me see', thanks. Nothing in them is a question.

Every clause has to be made of such words, so that '好的' is one and '好的，什么时候发货' isn't.
"""

from __future__ import annotations

import re
from enum import StrEnum

__all__ = ["Talk", "is_bare_data", "talk_of"]

_LONGEST = 40
_MARKS = re.compile(r"[\[【][^\[\]【】\n]{1,10}[\]】]")
_BREAKS = re.compile(r"[\s，,。.!！~～、…;；:：()（）\-—]+")
# '好吧' agrees, '可以吧' wants to know.
_ASKING = frozenset("?？吗么")
_WONDERS = re.compile(r"(?:可以|对|是|没错|没问题|收到|懂|明白).{0,2}[吧嘛]$")
_TAIL = r"[了的呢哈啊呀吧哦噢喔喽咯啦嘛哟嗷诶滴哒]*(?:亲+|宝|美女|帅哥|小姐姐|小哥哥|老板)?"

_ACKNOWLEDGES = (
    r"好+(?!评|用|看|久|慢|多|像|几|大|小|贵|吃|了没)|好嘞|好咧|嗯+|恩+|额+|呃+|哦+|噢+|喔+|奥+|啊+|唉+|行+(?!不)|可以(?!退|换|改)|没问题|没有问题"
    r"|(?:我)?(?:明白|知道|懂|了解|清楚|晓得|收到)|没关系|没事|不要紧|不客气|(?:原来)?(?:是)?这样(?:子)?|原来如此|(?:那)?(?:就|先)这样|是+的?|对+的?|没错|确实"
    r"|(?<![a-z])(?:ok|okay|okk|k|yes|yeah|sure|fine|got it)(?![a-z])|哈{2,}(?![喽啰罗])|哈(?![喽啰罗哈])|呵+|嘿+|嘻+|h{2,}|不好意思|抱歉|打扰|尴尬|汗|晕"
)
_WAITS = r"(?:请|麻烦|您|你)*(?:稍等|等等|等一下|等下|等会儿?|稍候)(?:一?下|哈)?|(?:那)?我(?:先|再|去|自己|这边)*(?:看看|看一下|看下|试试|试一下|试下|想想|考虑一下|考虑下|等等|问问|问一下|问下|等)(?:看|吧)?|(?:那)?算了"
_CLOSES = r"(?:暂时|目前|别的|其他|其它|先)*(?:没有?|木有)(?:啥|什么|别的|其他|其它|问题|事)*[了啦]|(?:暂时|目前|别的|其他|其它)没有?"
_THANKS = r"(?:真(?:的)?(?:是)?|太|十分|非常|好的?|那|先)*(?:谢+|多谢|感谢|辛苦)(?:谢|您|你|你们|各位|大家|一下)*|(?:那|先|就|要|得)*麻烦(?:您|你|你们)?|thanks|thank you|thx|3q"
_LEAD = r"(?:那么?|我|那我|啊|额)?"


class Talk(StrEnum):
    """What such a message does."""

    ACKNOWLEDGES = "acknowledges"
    THANKS = "thanks"


_PIECES = re.compile(rf"(?:{_LEAD}(?:{_ACKNOWLEDGES}|{_WAITS}|{_CLOSES}|{_THANKS}){_TAIL})+", re.IGNORECASE)
# Every character a piece can be made of (no wildcard stands in it), with those that differ from an ASCII letter by case
# alone: one look at them spares nearly every question the pattern itself.
_LETTERS = frozenset(
    letter
    for pattern in (_LEAD, _ACKNOWLEDGES, _WAITS, _CLOSES, _THANKS, _TAIL, "ıİſK")
    for letter in pattern + pattern.upper() + pattern.lower()
)
_THANKING = re.compile(r"谢|辛苦|thank|thx|3q", re.IGNORECASE)
_DATA = re.compile(
    r"(?:[\[【][^\[\]【】\n]{0,10}x[\]】]|https?://\S+|[A-Za-z]*[\-_]?\d[A-Za-z0-9\-_*]*|[¥￥元]|[\s，,。.:：;；/()（）+\-]+)+"
)


def talk_of(text: str) -> Talk | None:
    """Return what a message does that says nothing else, or None when it may want something.

    Codes that platforms put for faces and masked values are passed over; a question mark or a question particle means
    that something is asked.
    """
    if len(text) > _LONGEST or not _ASKING.isdisjoint(text):
        return None
    if text.rstrip().endswith(("吧", "嘛")) and _WONDERS.search(text):
        return None
    said = False
    for clause in _BREAKS.split(_MARKS.sub(" ", text) if "[" in text or "【" in text else text):
        if clause:
            if not _LETTERS.issuperset(clause) or _PIECES.fullmatch(clause) is None:
                return None
            said = True
    if not said:
        return None
    return Talk.THANKS if _THANKING.search(text) else Talk.ACKNOWLEDGES


def is_bare_data(text: str) -> bool:
    """Whether a text is nothing but numbers, codes, links or masked values: data without a word about what for."""
    return bool(text.strip()) and _DATA.fullmatch(text.strip()) is not None
