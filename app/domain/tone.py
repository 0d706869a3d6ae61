"""Tone rules for texts that buyers read: what a machine can check of them, with a fix for each finding.

Meant for texts that people write (answers, built-in texts, quick replies, mail), before they go into service; Liquid
tags are left out, since what fills them is checked when it is sent.

Source: the domain rules, section 13 (tone and content).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from app.core.values import value

__all__ = ["MAX_LENGTH", "ToneFinding", "ToneKind", "lint"]

ToneKind = Literal["answer", "complaint", "mail", "quick_reply"]
"""What a text is for: mail and complaints are held to more than a chat answer."""

MAX_LENGTH: Final = 300
"""Longest text in characters. Source: the domain rules, section 13 (short)."""


@value(frozen=True, slots=True)
class ToneFinding:
    """One breach of the tone rules: a stable code, the words that break it, and how to mend it (Chinese)."""

    code: str
    excerpt: str
    fix: str


@value(frozen=True, slots=True)
class _Rule:
    code: str
    pattern: re.Pattern[str]
    fix: str
    kinds: frozenset[ToneKind] = frozenset({"answer", "complaint", "mail", "quick_reply"})


_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_EXCERPT_MARGIN = 6

# A result that a guarantee could be about; what follows 保证/一定/肯定 within a few characters.
_RESULT = (
    r"(?:到|送达|收到|发出|发货|寄出|能发|没问题|没有问题|不会|退款|退给|退您|赔|补偿|解决|处理好|修好|正品|满意"
    r"|质量|有效|合身|不掉色|不起球|不坏|准时|按时|能用|成功)"
)
_NOT_NEGATED = r"(?<!不能)(?<!无法)(?<!没法)(?<!不敢)(?<!难以)(?<!不)(?<!没有)"

_SUPERLATIVES = re.compile(
    r"最好|最低价|最优惠|最便宜|最划算|最实惠|最佳|最优|最强|最牛|最高级|最先进|最正宗|最受欢迎|最靠谱"
    r"|全网最|全国最|史上最|行业最|世界级|国家级|顶级|极品|独一无二|绝无仅有|史无前例|万能"
    # A rank stands after what is ranked (销量第一); an ordinal (第一次, 第一泡) or a manner (第一时间) claims none.
    r"|(?<=[\u4e00-\u9fff])第一(?=的|名|家|[。！!，,；;、～~\s]|$)|第一品牌"
    # 绝对 as a plain intensifier is banned too: 绝对不会, 绝对正品.
    r"|绝对"
)
_GUARANTEES = re.compile(
    # These words stay out even in a denial: a part of a sentence is easily quoted as a promise.
    r"保证到|一定能到|一定会到|肯定能到|肯定会到|肯定没问题|包您满意|绝无问题|保准"
    rf"|{_NOT_NEGATED}(?:保证|一定|肯定)[^。！？!?；;，,\s]{{0,6}}?{_RESULT}"
)
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\u2b55\u231a\u231b\u2328\u23e9-\u23fa]"
    r"|\[(?:微笑|玫瑰|可爱|偷笑|害羞|呲牙|抱拳|爱心|鲜花|笑脸)\]"
)

_ALL: tuple[_Rule, ...] = (
    _Rule("informal_you", re.compile(r"你们|你"), "对买家一律用“您”，泛指时改写成“您”或“大家”"),
    _Rule(
        "look_yourself",
        re.compile(
            r"看(?:一下|下|看)?(?:商品|宝贝|产品)?(?:描述|详情)|(?:以|见|参考|参照)(?:商品|宝贝)?详情页?"
            r"|自己(?:去)?(?:看|查|找)|自行(?:查看|查询|查找)|页面(?:上)?都?有(?:写|说明)"
        ),
        "直接把买家要的内容写出来，不要让买家自己去找",
    ),
    _Rule(
        "blame_system",
        re.compile(
            r"系统(?:错误|故障|出错|异常|问题|原因|崩)|技术(?:问题|故障|原因)|程序(?:出错|错误)|服务器(?:故障|问题)"
        ),
        "不要拿系统或技术当理由，说明给买家造成的影响和接下来怎么办",
    ),
    _Rule("ellipsis", re.compile(r"…|\.{3,}|。{2,}"), "不要用省略号或连续句号，把话说完"),
    _Rule("superlative", _SUPERLATIVES, "去掉极限用语，写具体事实"),
    _Rule("guarantee", _GUARANTEES, "不要打包票，改成已知的事实或“以实际为准”"),
    _Rule(
        "review_reward",
        re.compile(
            # "评价没有返现" is the right answer to a question about rewards.
            r"(?:好评|五星|晒图|评价)[^。！？!?；;]{0,8}(?<!没有)(?<!没)(?<!不)(?<!无)"
            r"(?:返现|红包|奖励|有礼|送券|送礼|返\d|送您|优惠券)"
            r"|(?:返现|红包|奖励)[^。！？!?；;]{0,6}(?:好评|五星)"
        ),
        "评价不能用好处来换，删掉这句",
    ),
    _Rule(
        "review_change",
        re.compile(
            r"(?:删除?|修改|改成?|撤销|取消|更改)(?:一下|掉|了)?(?:您的|这条|那条)?(?:差评|中评|评价|评论)"
            r"|(?:差评|中评|评价|评论)[^。！？!?；;，,]{0,6}(?:删掉|删除|改成|修改|撤销|去掉)"
        ),
        "不能要求买家删除或修改评价，先解决问题",
    ),
    _Rule(
        "review_solicit",
        re.compile(r"给(?:我们|个|一个)*(?:五星|好评|5星)|(?:五星|5星)好评[哦吧呀]|记得好评"),
        "可以欢迎真实的评价，不能指定好评",
    ),
    _Rule(
        "private_contact",
        re.compile(
            r"加(?:一下|下|个|我|我们的?)*(?:微信|vx|v信|QQ|威信)|微信号|(?:私下|线下)(?:交易|付款|转账)"
            r"|转账给|(?:直接|微信|支付宝)转账|收款码|扫码付款",
            re.IGNORECASE,
        ),
        "沟通和付款都留在平台内，删掉联系方式或收款方式",
    ),
    _Rule(
        "refund_reason",
        re.compile(
            r"(?:退款|退货)?(?:原因|理由)[^。！？!?；;，,]{0,6}(?:选|写|填)(?:择|成)?(?:“|\")?(?:不喜欢|不想要|拍错|七天|7天|个人原因|其他)"
        ),
        "不能引导退款原因，请买家按实际情况填写",
    ),
    _Rule(
        "personal_data",
        re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)|(?<!\d)\d{17}[\dXx](?!\d)"),
        "不要写出完整的手机号或证件号",
    ),
    _Rule(
        "internal_name",
        re.compile(
            r"(?<![A-Za-z0-9_/.])(?:aftersale|[a-z]+(?:_[a-z0-9]+)+)(?![A-Za-z0-9_/.])"
            r"|知识库|置信度|匹配度|意图识别|提示词|词条"
        ),
        "内部名称、编号和得分不能给买家看",
    ),
)
_COMPLAINT: tuple[_Rule, ...] = (
    _Rule("emoji_in_complaint", _EMOJI, "投诉、威胁和人身伤害的回复里不用表情", frozenset({"complaint"})),
    _Rule(
        "light_in_complaint",
        re.compile(r"[~～]"),
        "投诉的回复不用波浪号，语气要郑重",
        frozenset({"complaint"}),
    ),
    _Rule(
        "dear_in_mail",
        re.compile(r"亲(?=[，,～~！!、\s]|$)|亲亲"),
        "邮件里不用“亲”，用“尊敬的客户”",
        frozenset({"mail"}),
    ),
)
_APOLOGY = re.compile(r"抱歉|对不起|歉意|不好意思|sorry|apolog", re.IGNORECASE)
_MANY_EMOJI_FIX = "友好的场合也只用一个表情"


def lint(text: str, *, kind: ToneKind = "answer") -> tuple[ToneFinding, ...]:
    """Return what in a buyer-facing text breaks the tone rules, in the order of the rules; empty when nothing does.

    Args:
        text: the text or its Liquid template, Chinese or English; tags are not looked at.
        kind: ``answer`` (chat), ``complaint`` (complaints, threats and injuries: an apology, and no emoji or light
            signs), ``mail`` (no 亲), ``quick_reply`` (as an answer).
    """
    # A tag stands for some words: a blank keeps what is left and right of it apart.
    spoken = _TEMPLATE.sub(" ", text)
    findings = [
        finding for rule in (*_ALL, *_COMPLAINT) if kind in rule.kinds for finding in _found(rule, spoken)
    ]
    if kind == "complaint" and spoken.strip() and not _APOLOGY.search(spoken):
        findings.append(ToneFinding("no_apology", spoken.strip()[:20], "先道歉，再说事实和下一步"))
    if kind != "complaint" and len(emoji := _EMOJI.findall(spoken)) > 1:
        findings.append(ToneFinding("many_emoji", "".join(emoji[:5]), _MANY_EMOJI_FIX))
    if (length := len(spoken)) > MAX_LENGTH:
        findings.append(
            ToneFinding("too_long", f"{length} > {MAX_LENGTH}", f"压缩到{MAX_LENGTH}字以内，只答买家问的")
        )
    return tuple(findings)


def _found(rule: _Rule, spoken: str) -> Iterator[ToneFinding]:
    for match in rule.pattern.finditer(spoken):
        start, end = max(0, match.start() - _EXCERPT_MARGIN), match.end() + _EXCERPT_MARGIN
        yield ToneFinding(rule.code, spoken[start:end].strip(), rule.fix)
