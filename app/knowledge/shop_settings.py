"""Shop settings as people set them, as a strict model: names, ranges and the JSON schema.

Source: the contracts page, section 7; the shop object of scenario files; figures marked [D] or [S] of the domain rules.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, cast
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from app.domain.shops import PRESALE_GROUPS
from app.knowledge.problems import nearest_name
from app.knowledge.times import format_span, parse_instant, parse_minute, parse_span

__all__ = ["FACTS", "SETTINGS", "ShopSettings", "misspelt_setting"]


def _custom(why: str) -> PydanticCustomError:
    return PydanticCustomError("shop_setting", "{why}", {"why": why})


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = _nearest_zone(name)
        hint = f"did you mean {near}?" if near else "write it like Asia/Shanghai"
        raise _custom(f"{name!r} is no time zone; {hint}") from None
    return name


def _nearest_zone(name: str) -> str | None:
    zones = sorted(available_timezones())
    tails = {zone.rsplit("/", 1)[-1].casefold(): zone for zone in zones}
    return tails.get(name.strip().replace(" ", "_").casefold()) or nearest_name(name, zones)


def _hours(groups: object) -> object:
    if not isinstance(groups, dict):
        raise _custom('must map groups to spans, such as {"presale": ["08:30-18:00"]}')
    checked: dict[str, list[str]] = {}
    for group, spans in cast("dict[object, object]", groups).items():
        near = None if group in PRESALE_GROUPS else nearest_name(str(group), PRESALE_GROUPS)
        if near:
            raise _custom(f"unknown group {group}; did you mean {near}?")
        listed = cast("list[object]", spans) if isinstance(spans, list) else [spans]
        parsed: list[tuple[int, int]] = []
        for text in listed:
            try:
                parsed.append(parse_span(text if isinstance(text, str) else str(text)))
            except ValueError as error:
                raise _custom(f"{group}: {error}") from None
        _refuse_overlap(str(group), parsed)
        checked[str(group)] = [format_span(span) for span in parsed]
    return checked


def _refuse_overlap(group: str, spans: list[tuple[int, int]]) -> None:
    # A span over midnight is two pieces of the same day.
    pieces: list[tuple[int, int, tuple[int, int]]] = []
    for start, end in spans:
        parts = [(start, end)] if start < end else [(start, 1440), (0, end)]
        pieces.extend((*part, (start, end)) for part in parts)
    pieces.sort()
    for before, after in pairwise(pieces):
        if after[0] < before[1]:
            raise _custom(f"{group}: {format_span(before[2])} and {format_span(after[2])} overlap")


def _switch(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() in ("on", "off"):
        return value.strip().lower() == "on"
    return value


def _listed(value: object) -> object:
    # `vip_tiers=gold,diamond` on a command line.
    if isinstance(value, str):
        return [part.strip() for part in value.replace("，", ",").split(",") if part.strip()]
    return value


def _lowered(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _day_time(text: str) -> str:
    try:
        parse_minute(text)
    except ValueError as error:
        raise _custom(str(error)) from None
    return text


def _instant(text: str) -> str:
    try:
        parse_instant(text)
    except ValueError as error:
        raise _custom(str(error)) from None
    return text


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000), BeforeValidator(_text)]
Instant = Annotated[str, AfterValidator(_instant)]
Share = Annotated[float, Field(ge=0, le=1)]


class Promo(BaseModel):
    """A promotion. Further keys are facts for templates."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, StringConstraints(min_length=1)]
    rule: str | None = None
    start: Instant | None = Field(default=None, description="RFC 3339, or a date (its start).")
    end: Instant | None = Field(default=None, description="RFC 3339, or a date (its end).")


class Product(BaseModel):
    """Something the shop sells. Further keys are facts for templates."""

    model_config = ConfigDict(extra="allow")

    product_id: Annotated[str, StringConstraints(min_length=1), BeforeValidator(_text)]
    title: Annotated[str, StringConstraints(min_length=1)]


class Group(BaseModel):
    """Replaces these fields of a default group."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, StringConstraints(min_length=1)]
    user_tiers: list[str] | None = None
    sources: list[str] | None = None


def _distinct_products(products: list[Product]) -> list[Product]:
    seen: set[str] = set()
    for product in products:
        if product.product_id in seen:
            raise _custom(f"the product {product.product_id} stands here twice")
        seen.add(product.product_id)
    return products


class ShopSettings(TypedDict, total=False):
    """One shop. Further keys are facts, which templates see as ``shop.<key>``."""

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    name: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), BeforeValidator(_text)
    ]
    tz: Annotated[str, AfterValidator(_zone), Field(description="IANA time zone, such as Asia/Shanghai.")]
    mode: Annotated[Literal["auto", "supervised", "shadow", "off"], BeforeValidator(_lowered)]
    welcome: Annotated[Text | None, Field(description="Welcome text; empty: none.")]
    bot_name: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=32), BeforeValidator(_text)
    ]
    off_hours: Annotated[Text | None, Field(description="Text outside the hours; empty: the built-in one.")]
    hours: Annotated[
        dict[str, list[str]],
        BeforeValidator(_hours),
        Field(
            description='Group → spans in shop time, {"presale": ["08:30-01:00"]}; a group without: always open.'
        ),
    ]
    repeat_guard: Annotated[
        bool, BeforeValidator(_switch, json_schema_input_type=bool | Literal["on", "off"])
    ]
    loop_guard: Annotated[
        int, Field(ge=0, le=10_000, description="Automatic turns a minute in one conversation.")
    ]
    burst_quiet: Annotated[float, Field(ge=0, le=60, description="Seconds; 0: one reply per message.")]
    burst_max: Annotated[float, Field(ge=0, le=300, description="Seconds in all.")]
    answer_at: Annotated[Share | None, Field(description="Confidence to answer at; null: as fitted.")]
    ask_at: Annotated[Share | None, Field(description="Confidence to ask back at; null: as fitted.")]
    vip_tiers: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=list[str] | str)]
    bulk_qty: Annotated[int, Field(ge=1, le=1_000_000)]
    return_window_days: Annotated[int, Field(ge=0, le=3650)]
    quality_window_hours: Annotated[int, Field(ge=0, le=87_600)]
    stale_trace_hours: Annotated[int, Field(ge=1, le=8760)]
    session_gap_minutes: Annotated[int, Field(ge=1, le=10_080)]
    human_accept_seconds: Annotated[int, Field(ge=1, le=86_400)]
    leader_alert_seconds: Annotated[int, Field(ge=1, le=86_400)]
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
    # Facts whose shape the rules depend on.
    ship_cutoff: Annotated[str, AfterValidator(_day_time), Field(description="Time of day, such as 16:00.")]
    ship_within_hours: Annotated[int, Field(ge=0, le=8760)]
    promos: list[Promo]
    catalog: Annotated[list[Product], AfterValidator(_distinct_products)]
    groups: list[Group]


SETTINGS: TypeAdapter[ShopSettings] = TypeAdapter(ShopSettings)
"""Checks a shop's settings; only the keys that were given come back."""

FACTS = frozenset(
    """
    code_rule coupon_url courier courier_options courier_quote eta_days express_tariff gift
    gift_in_bargaining gift_wrap limit major_amount new_arrival_date no_reason_days overseas
    pay_methods platform postage postage_rule price_protection_days reach_table reach_unknown
    return_address stack_rule vip_rule warehouse_city warranty_months
    """.split()
)
"""Facts that the rules and the shipped texts know by name, beside those of ``ShopSettings``."""


def misspelt_setting(key: str) -> str | None:
    """Return the known setting or fact that an unknown ``key`` is probably a slip of; None for a new fact."""
    known = (*ShopSettings.__annotations__, *sorted(FACTS))
    if key in known:
        return None
    # `welcome_en` is a fact beside `welcome`, no slip of it.
    return nearest_name(key, [name for name in known if not key.startswith(f"{name}_")])
