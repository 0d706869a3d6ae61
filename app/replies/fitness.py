"""Whether a matched entry's answer can be what a message wants, by words that the topic rules out or has to see.

Matching goes by likeness, and a few topics have neighbours that look alike and mean something else: to urge a refund
isn't to urge a parcel, 'paid by card' doesn't ask how to pay, 'that one' confirms an address only when one was
asked about. What is ruled out here is neither answered nor offered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.domain.knowledge import Entry
from app.domain.matching import Band, Match
from app.replies.topics import SOCIAL_TOPICS

__all__ = ["LEAST_OFFERED", "fits", "fitting"]

LEAST_OFFERED = 0.55
"""Below this confidence the best of what remains isn't worth a question about it."""

_ADDRESS_STAGE = "address_confirm"
_ADDRESS_TOPICS = frozenset({"addr_yes", "addr_no"})
_ADDRESS_WORDS = re.compile(
    r"地址|电话|号码|手机|信息|收货|收件|门牌|名字|姓名|楼|小区|address|phone", re.IGNORECASE
)
_ASKS = re.compile(
    r"[?？吗么嘛]|什么|怎|咋|多少|几|哪|谁|何|能|可以|可否|是否|行不|支持|有没|有无|是不是|想|要|怎样|不$|没$|which|what|how|can|do ",
    re.IGNORECASE,
)
_LATIN_ONLY = re.compile(r"[\x00-\x7f]*")


@dataclass(frozen=True, slots=True)
class _Words:
    """What a text must and mustn't hold for a topic; ``asks``: it must look like a question."""

    unless: re.Pattern[str] | None = None
    only: re.Pattern[str] | None = None
    asks: bool = False


def _words(unless: str = "", only: str = "", *, asks: bool = False) -> _Words:
    return _Words(re.compile(unless) if unless else None, re.compile(only) if only else None, asks)


_TOPICS: dict[str, _Words] = {
    # Urging is about parcels here; refunds, invoices, inspections and answers are urged elsewhere.
    "ship_urge": _words(
        r"退|发票|开票|检测|财务|白条|处理|回复|回我|解决|换货|审核|提货码|实体店|取件|补偿|赔|钱|开出来"
    ),
    "ship_eta": _words(r"差价|审核|退|换|补发|券|发票|积分|钱|安装"),
    "ship_when": _words(r"退|换货|发票|券|补发"),
    "ship_remote": _words(r"年前|[号日]|今天|明天|后天|今晚|几点|什么时候|现在|发货吗"),
    "ship_postage": _words(r"换|退|没要|取件|上门"),
    "ship_tracking_no": _words(
        r"单号[:：为是]?\s*[\[A-Za-z0-9]|这个是|这是|只有|上传|纠纷|填|退|商品单号|订单单号"
    ),
    "ship_courier_choose": _words(
        r"停运|放假|电话|退|取件|已经|发出|怎么不|是.{0,6}[吗么?？]|公众号|查|春节|交给",
        r"发|换|指定|改|走|要|用|选|补|寄",
    ),
    "ship_courier_which": _words(r"退|都行|随便"),
    "log_track": _words(r"退货|退的|我退|返修|修改|想改|别派|别送|不要送|发票|乡下|农村|村里|镇上|山区"),
    "log_not_home": _words(r"让快递员|经常|问我要|取件时|上门取|返修|退货"),
    "log_courier_attitude": _words(
        "",
        r"态度|骂|凶|服务|投诉|不送|没送|不上门|不打电话|没打电话|不给|不肯|不情愿|自己去|自己取|自取|丢|扔|放.{0,3}(?:驿站|门口|代收)|太差|很差|直接",
    ),
    "log_signed_missing": _words(r"我已经签收|[已我]签收再|签收再", r"没|未|谁|显示|怎么|不是我|咋|不见|哪"),
    "log_stuck": _words(r"(?<!不)(?<!没)(?<!未)更新了$|已更新"),
    "log_intercept": _words(r"不要拦截|取消拦截|拦截取消|不用拦"),
    "ship_partial": _words(r"退", asks=True),
    "pay_method": _words(r"退|返还|到账|原路|还款", asks=True),
    "pay_code_missing": _words(
        r"提货|取件|安装|没有?提|(?<!没)(?<!没有)(?<!不)收到(?:了?一条|短信说|信息说)", r"没|未|不到|收不"
    ),
    "order_confirm": _words(r"没货|少拍|重复|拍错|另外|发票|换|退|取消|到[吗么没?？]"),
    "order_how": _words(r"退|换|取消|售后|评价"),
    "stock_available": _words(r"退|换货|签收"),
    "stock_restock": _words(r"补发|换货|退"),
    "shop_hours": _words(r"他们|站点|网点|快递|师傅|自提|送|到货|到达|取件|我要"),
    "price_ask": _words(r"能退|退多少|退款|运费|我实付"),
    "price_free_postage": _words(r"退|[券卷]|换"),
    "price_bargain": _words(r"申请|维修|取件|[券卷]"),
    "promo_coupon_get": _words(r"退|过期"),
    "prod_usage": _words(r"安装(?!方法|步骤|教程|视频|说明|图)|预约|上门"),
    "prod_detail": _words(r"退|换货|发票|物流|快递|发货"),
    "order_remark": _words(r"有备注|明明|备注了[吗么?？]|上面"),
    "acc_vip": _words(r"^我是.{0,6}会员"),
    "gift_ask": _words(r"线|配件|充电|说明书|退"),
    "greet_anyone": _words(r"站点|网点|快递|家里|取件|收货"),
    "gift_missing": _words(r"无所谓|不用|不要了"),
    "as_policy": _words(
        r"用过|穿过|洗过|拆|内裤|内衣|定制|刻字|食品|过期|不支持|写着|说不|只可以|取件|帮我申请|给我换|退款[吗嘛?？]|退钱|好久|长时间|坏|只有"
    ),
    "as_refund_progress": _words(
        r"要求退|先把钱退|[券卷]|差价|积分|余额|不想退|发货过来|白条|^(?!.*(?:没|未|不)).*(?:到账了|退款到了|已收到|退回来了)|怎么退款|如何退款|想退款"
    ),
    "as_return_address": _words(r"发票|款|钱"),
    "as_return_quality": _words(r"没有?(?:质量)?问题|怕|有问题(?:我|再)|退款有"),
    "as_return_nonquality": _words(r"不影响|已经?申请|不退|取消|申请的退"),
    "as_how_apply": _words(r"^申请售后[了的号]|不是|售后号|网页|不了|进不去|没有|显示|找不到|发票|^可以"),
    "as_missing_item": _words(r"电话|短信|信息|余额|返"),
    "as_postage_who": _words(r"没有运费险|运费险(?:是|可以)|报销"),
    "as_return_tracking": _words(r"吗|么|款|钱|没退"),
    "as_price_diff": _words(r"没有?降|不降"),
    "chg_cancel": _words(
        r"取消.{0,3}(?:拦截|退|售后|换|安装|服务)|(?:退货|退款|售后|换货|拦截).{0,8}取消|(?:为什么|为啥|怎么|谁).{0,6}取消|取消.{0,4}取消"
        r"|(?:被|给我|自动|已经|是不是)取消|取消了(?!吧|算)|不取消|没有?(?:显示|操作)|白条"
    ),
    "chg_address": _words(r"下载|发票|取件|退货|寄回|返修|怎么写"),
    "chg_receiver": _words(r"联系[您你]|联系方式[吗么?？]|没有|发票|取件|快递员"),
    "inv_status": _words(
        r"^(?:.{0,4}的)?发票(?:咨询|问题|类)?$|咨询|修改|改|换|纸质|公司的|下载|寄发票|怎么给|形式|抬头|个人|重开"
    ),
    "inv_issue": _words(r"不需要|不要|不用|不会开|拒绝"),
    "media_image": _words(r"壁纸"),
    "esc_privacy": _words(r"借|自己用"),
}


_CLOSING_TOPICS = frozenset(topic for topic in SOCIAL_TOPICS if topic.startswith("close_"))
_CHOOSY = _ADDRESS_TOPICS | _CLOSING_TOPICS | _TOPICS.keys()
"""The topics that don't fit every text."""


def fits(topic: str, text: str, stage: str) -> bool:
    """Whether a topic's answer can be meant by a text.

    Args:
        topic: the entry's topic.
        text: the question as the buyer wrote it.
        stage: where the conversation stands; an address is confirmed only where one was asked about.
    """
    if topic in _ADDRESS_TOPICS:
        return stage == _ADDRESS_STAGE or _ADDRESS_WORDS.search(text) is not None
    if topic in _CLOSING_TOPICS:
        return not text.rstrip().endswith(("?", "？", "吗", "么"))
    words = _TOPICS.get(topic)
    return words is None or _hold(words, text)


def _hold(words: _Words, text: str) -> bool:
    if _LATIN_ONLY.fullmatch(text):
        return True
    if words.unless is not None and words.unless.search(text):
        return False
    if words.only is not None and words.only.search(text) is None:
        return False
    return not words.asks or _ASKS.search(text) is not None


def _without(match: Match, dropped: Sequence[str]) -> Match:
    ranked = tuple(candidate for candidate in match.ranked if candidate.entry_id not in dropped)
    if match.ranked[0].entry_id not in dropped:
        return replace(match, ranked=ranked)
    confidence = ranked[0].score if ranked else 0.0
    return replace(
        match,
        ranked=ranked,
        confidence=min(confidence, match.confidence),
        band=Band.ASK if confidence >= LEAST_OFFERED else Band.UNKNOWN,
    )


def fitting(match: Match, entries: Mapping[str, Entry], stage: str) -> Match:
    """Return a match without the entries that its text can't mean; what remains below the best is never sure.

    Args:
        match: as the matcher ranked it.
        entries: the snapshot's entries by id.
        stage: where the conversation stands.
    """
    dropped: list[str] = []
    for candidate in match.ranked:
        entry = entries.get(candidate.entry_id)
        if entry is None or entry.topic not in _CHOOSY:
            continue
        text = match.text.strip()
        # A phrasing of the shop's own, word for word, is the shop's decision.
        if (entry.topic in _ADDRESS_TOPICS or candidate.variant != text) and not fits(
            entry.topic, text, stage
        ):
            dropped.append(candidate.entry_id)
    return _without(match, dropped) if dropped else match
