"""What people read about each error code, in Chinese and English; ``docs/errors.md`` lists the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.errors import ConflictError, HuojiError

__all__ = ["ERROR_TEXTS", "ErrorText", "describe", "language_of"]


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An error's status, its title in both languages, and what to do in Chinese (English is the error's message)."""

    status: int
    zh: str
    en: str
    advice_zh: str = ""


ERROR_TEXTS: Mapping[str, ErrorText] = {
    "bad_request": ErrorText(400, "请求无法理解", "The request can't be understood", "请检查请求的格式。"),
    "body_invalid": ErrorText(
        400, "请求正文不是有效的 JSON", "The body is no valid JSON", "请检查括号、引号和编码（UTF-8）。"
    ),
    "cursor_invalid": ErrorText(
        400, "翻页位置无效", "The cursor is not valid", "请使用上一页返回的 next，不要改动。"
    ),
    "out_of_range": ErrorText(
        400, "参数超出范围", "A parameter is out of range", "请按 errors 中给出的范围填写。"
    ),
    "token_invalid": ErrorText(401, "未登录或登录已失效", "Not, or no longer, signed in", "请重新登录。"),
    "credentials_wrong": ErrorText(401, "用户名或密码不正确", "Wrong name or password", "请核对后重试。"),
    "forbidden": ErrorText(403, "没有权限", "Not allowed", "请联系管理员开通所需权限。"),
    "csrf_invalid": ErrorText(
        403, "页面校验失败", "The CSRF token is missing or wrong", "请刷新页面后重试。"
    ),
    "origin_foreign": ErrorText(
        403, "来源网站不被允许", "The request comes from a foreign site", "请从本系统的页面访问。"
    ),
    "not_found": ErrorText(404, "没有找到", "Not found", "它不存在，或不在您的权限范围内。"),
    "method_not_allowed": ErrorText(405, "不支持这种请求方法", "Method not allowed", "请查看 Allow 响应头。"),
    "conflict": ErrorText(409, "当前状态不允许", "Not possible in this state", "请查看最新状态后重试。"),
    "changed": ErrorText(409, "内容刚刚被改动", "It has just changed", "请查看最新状态后重试。"),
    "taken": ErrorText(409, "已被接走", "Taken already", "{by} 已经接待了这位买家。"),
    "held_by": ErrorText(
        409, "由其他客服接待中", "Held by somebody else", "{by} 正在接待，请先转接或由主管接管。"
    ),
    "not_held": ErrorText(
        409, "您还没有接待这个会话", "You don't hold this conversation", "请先接入再操作。"
    ),
    "withdrawn": ErrorText(409, "已不需要人工", "Nobody is needed any more", "这次转人工已经结束。"),
    "closed": ErrorText(409, "会话已结束", "The conversation is closed", "直接发送一条消息即可重新打开。"),
    "name_taken": ErrorText(409, "名称已被使用", "The name is taken", "请换一个名称。"),
    "key_reused": ErrorText(
        409,
        "幂等键已用于另一个请求",
        "The idempotency key was used for another request",
        "请为新请求换一个键。",
    ),
    "stale": ErrorText(
        412, "有更新的内容", "Something newer exists", "对方刚刚又发了消息或改动，请查看后再继续。"
    ),
    "version_mismatch": ErrorText(412, "版本已变化", "The version has changed", "请重新读取后再保存。"),
    "precondition_required": ErrorText(
        428, "缺少 If-Match", "If-Match is missing", "请带上读取时得到的 ETag。"
    ),
    "too_large": ErrorText(413, "内容过大", "Too large", "请缩小后重试。"),
    "invalid": ErrorText(422, "内容不正确", "The input is not valid", "请按 errors 中的提示修改。"),
    "unknown_field": ErrorText(
        422, "有无法识别的字段", "There is an unknown field", "请按 errors 中的提示修改字段名。"
    ),
    "guard": ErrorText(
        422, "内容可能违规", "The text may break a rule", "请修改；确认无误可勾选确认后再次发送。"
    ),
    "password_too_short": ErrorText(422, "密码太短", "The password is too short", "至少 8 个字符。"),
    "password_too_long": ErrorText(400, "密码太长", "The password is too long", "最多 1024 字节。"),
    "rate_limited": ErrorText(429, "操作太频繁", "Too many tries", "请稍后再试。"),
    "login_rate_limited": ErrorText(429, "登录尝试次数过多", "Too many wrong passwords", "请稍后再试。"),
    "internal": ErrorText(
        500, "系统出错了", "Something went wrong here", "请稍后重试；若仍出错，请把 request_id 告诉管理员。"
    ),
    "invariant": ErrorText(
        500, "系统出错了", "Something went wrong here", "请稍后重试；若仍出错，请把 request_id 告诉管理员。"
    ),
    "unavailable": ErrorText(503, "暂时不可用", "Not available right now", "请稍后自动重试。"),
    "overloaded": ErrorText(503, "系统繁忙", "Too much waits already", "请稍后自动重试。"),
    "frame_invalid": ErrorText(422, "消息格式不正确", "The frame is not valid", "请按 errors 中的提示修改。"),
    "unknown_type": ErrorText(
        422, "不认识的消息类型", "The frame's type is unknown", "请查看文档中的类型列表。"
    ),
    "hello_first": ErrorText(409, "请先发送 hello", "Say hello first", "连接后的第一帧必须是 hello。"),
    "hello_again": ErrorText(409, "已经发送过 hello", "Hello was said already", "每个连接只需要一次 hello。"),
    "knowledge_invalid": ErrorText(
        422, "知识内容有问题", "The knowledge has problems", "请按 errors 中的提示修改。"
    ),
    "shop_invalid": ErrorText(
        422, "店铺设置有问题", "The shop's settings have problems", "请按 errors 中的提示修改。"
    ),
}
"""By code. A code that isn't here is shown with the title of its status."""

_BY_STATUS: Mapping[int, str] = {
    400: "bad_request",
    401: "token_invalid",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "stale",
    413: "too_large",
    422: "invalid",
    429: "rate_limited",
    503: "unavailable",
}


def language_of(accept_language: str | None) -> str:
    """Choose ``zh`` or ``en`` from an Accept-Language header; Chinese unless English is wanted more."""
    best, best_weight = "zh", 0.0
    for part in (accept_language or "")[:200].split(","):
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        primary = tag.strip().lower().partition("-")[0]
        if primary in ("zh", "en") and weight > best_weight:
            best, best_weight = primary, weight
    return best


def describe(error: HuojiError, language: str) -> tuple[str, str]:
    """Return an error's title and detail in a language."""
    known = ERROR_TEXTS.get(error.code) or ERROR_TEXTS[_BY_STATUS.get(error.status, "internal")]
    if language == "en":
        return known.en, error.message
    if error.code not in ERROR_TEXTS:
        return known.zh, error.message
    by = (error.by if isinstance(error, ConflictError) else None) or "其他同事"
    return known.zh, known.advice_zh.format(by=by)
