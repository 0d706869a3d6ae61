"""The speech act of a text: question, request, refusal and the like, and acts that are undone rather than asked for.

Source: the measurements on matching, features (speech act) and veto rules.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SIGNS", "signs_of", "undoes"]

# A sign's name, its pattern in Chinese, and in texts with Latin letters.
_PATTERNS: Final = (
    (
        "question",
        r"[吗么嘛]|什么|怎么|怎样|咋|多少|几|哪|谁|为何|为啥|如何|是否|能否|可否|多久|多大|多长|有没|(.)不\1|没$|不$",
        r"\b(?:how|what|when|where|why|which|who|can|could|do|does|is|are|may|will)\b",
    ),
    (
        "request",
        r"帮|请|麻烦|给我|我要|我想|想要|申请|需要|能不能|可以",
        r"\b(?:please|want|need|help|would like)\b",
    ),
    ("negative", r"不|没|无|别|未", r"\b(?:not|no|never|cannot|can't|don't|didn't|won't)\b"),
    ("done", r"了|过|已|刚|昨", r"\b(?:already|have|has|was|did)\b"),
    (
        "continues",
        r"^(?:那|但|可是|然后|还|而且|因为|所以|不过|就|也|对|是|如果|要是|这)",
        r"^(?:but|and|so|because|or)\b",
    ),
    ("digits", r"\d", r"\d"),
)
SIGNS: Final = tuple(name for name, _, _ in _PATTERNS)
# Without the English words a pattern is a search for a few characters, which takes half as long.
_CHINESE: Final = tuple(re.compile(chinese).search for _, chinese, _ in _PATTERNS)
_MIXED: Final = tuple(re.compile(f"{chinese}|{latin}").search for _, chinese, latin in _PATTERNS)
_LATIN = re.compile("[a-z]")

# An act and its undoing. Asking why something is *not* done, or whether it need be, is no undoing.
_ACTS: Final = r"(退款|退货|退换货|退|换货|换|催|取消|投诉|开发票|发票|改地址|改|人工|补发|维修|取件|开票)"
_UNDONE = re.compile(
    r"(?:不用|不要|不想|不必|无需|不需要|先不|暂时不|暂不|就不|也不|我不|别|甭|不)(?:再|给我|帮我|您|你|继续|想|办理|申请){0,2}"
    + _ACTS
)
_WITHDRAWN = re.compile(
    r"(?:取消|撤销|撤回|撤掉|关闭)(?:了|掉|我的|这个|一下|上次的){0,2}(退款|退货|退换货|换货|售后|投诉|申请|维修|取件)"
    r"|(退款|退货|换货|售后|投诉|申请)(?:就|先|也)?(?:不要|不用|不需要|取消|撤销)了"
)
_DONE = re.compile(
    r"(?:已经?|刚刚?才?|现在就?|[你您]们?(?:刚才|之前)?说)[^没不未]{0,4}?"
    r"(取消|申请|提交|评价|好评|退货|退款|拒收|修改|改|换|联系|确认)"
    r"|我(取消|申请|提交)[^没不未]{0,4}了"
)
# What every act undone, withdrawn or reported needs at least one of.
_OF_ACTS = re.compile("[不别无甭取撤关退换售投申已刚现说我]")
_NOTHING: Final = frozenset[str]()
_OPEN = re.compile(
    r"怎么|为什么|为啥|凭什么|咋|吗|么|嘛|能不能|可不可|是不是|不给|会不会|不了|不能|多久|几|什么|哪|没|(.)不\1"
)


def signs_of(text: str) -> tuple[float, ...]:
    """Return 1 or 0 for each of ``SIGNS``, for a normalised text."""
    searches = _CHINESE if _LATIN.search(text) is None else _MIXED
    return tuple([0.0 if search(text) is None else 1.0 for search in searches])


def undoes(text: str) -> frozenset[str]:
    """Return the acts that a normalised text doesn't ask for although it names them; empty for nearly every text.

    That is: acts not, or no longer, wanted (``不用退了``), taken back (``取消退款``), or reported as done
    (``已经申请退款了``). A phrasing fits such a text only when it undoes the same acts.
    """
    if _OF_ACTS.search(text) is None:
        return _NOTHING
    acts: set[str] = set()
    if "不" in text or "别" in text or "无需" in text or "甭" in text:
        found = _UNDONE.search(text)
        if found is not None and _OPEN.search(text) is None:
            acts.add(found.group(1)[0])
    withdrawn = _WITHDRAWN.search(text)
    if withdrawn is not None:
        acts.add("撤" + (withdrawn.group(1) or withdrawn.group(2))[0])
    done = _DONE.search(text)
    if done is not None and _OPEN.search(text) is None:
        acts.add("了" + (done.group(1) or done.group(2))[0])
    return frozenset(acts)
