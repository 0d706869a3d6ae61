"""Answers as Liquid templates: strict, limited, compiled once, and checked before they may be published.

A value that is missing never becomes an empty place in a sentence: rendering raises ``MissingFact`` and the caller
takes the fallback or a human. Only outputs, ``if``/``unless``/``case`` and ``for`` are allowed; a text without tags
doesn't go through Liquid at all.

Source: the contracts page, section 6 (strict and limited), and the design page, section 7.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, cast
from zoneinfo import ZoneInfo

from liquid import BoundTemplate, Environment, RenderContext, Undefined
from liquid.builtin.expressions import Path
from liquid.builtin.expressions.logical import (
    BooleanExpression,
    ContainsExpression,
    EqExpression,
    GeExpression,
    GtExpression,
    LeExpression,
    LtExpression,
    NeExpression,
)
from liquid.builtin.expressions.loop import LoopExpression
from liquid.builtin.expressions.primitive import Blank, Empty, Nil
from liquid.exceptions import LiquidError

from app.core.clock import from_rfc3339, to_datetime
from app.core.errors import FieldProblem, InvalidError
from app.replies.sentences import Sentence
from app.replies.slots import KNOWN_SLOTS, is_known_slot, mask_phones

__all__ = ["MissingFact", "TemplateSet", "check_template"]

_ALLOWED_TAGS = frozenset({"if", "unless", "case", "for", "comment", "#", "break", "continue"})
_ALLOWED_FILTERS = frozenset(
    {
        "append", "at_least", "at_most", "capitalize", "ceil", "date_cn", "datetime_cn", "default", "divided_by",
        "downcase", "first", "floor", "join", "last", "map", "mask_phone", "minus", "money", "plus", "prepend",
        "replace", "round", "size", "slice", "sort", "split", "strip", "times", "truncate", "uniq", "upcase",
    }
)  # fmt: skip
_TAG = re.compile(r"\{[{%]")
_PATH_INDEX = re.compile(r"\[\d+\]")
_COMPARISONS = (
    EqExpression, NeExpression, LtExpression, GtExpression, LeExpression, GeExpression, ContainsExpression,
)  # fmt: skip
_CACHE_LIMIT = 8192


class MissingFact(Exception):  # noqa: N818 (an outcome that callers handle, not a failure)
    """A template needs a value that nobody knows; ``slot`` names it."""

    def __init__(self, slot: str) -> None:
        super().__init__(slot)
        self.slot = slot


class _Missing(Undefined):
    """A value that isn't known: false in a condition, replaced by ``default``, fatal in a sentence."""

    def __str__(self) -> str:
        raise MissingFact(str(self.name))

    def __iter__(self) -> Iterator[Any]:
        raise MissingFact(str(self.name))

    def __getitem__(self, key: str) -> object:
        return self

    def __hash__(self) -> int:
        return hash(self.name)

    def poke(self) -> bool:
        raise MissingFact(str(self.name))


class _Sandbox(Environment):
    """Liquid with our limits: what a person writes into an answer is far below them."""

    block_nesting_limit: ClassVar[int] = 6
    context_depth_limit: ClassVar[int] = 8
    loop_iteration_limit: ClassVar[int | None] = 200
    output_stream_limit: ClassVar[int | None] = 16_384


def _moment(value: object, zone: tzinfo) -> datetime:
    if isinstance(value, bool) or value is None or isinstance(value, Undefined):
        raise MissingFact(str(getattr(value, "name", "date")))
    if isinstance(value, int | float):
        return to_datetime(int(value)).astimezone(zone)
    text = str(value).strip()
    try:
        if len(text) == 10:
            return datetime.fromisoformat(text).replace(tzinfo=zone)
        return to_datetime(from_rfc3339(text)).astimezone(zone)
    except (ValueError, OverflowError) as bad:
        raise MissingFact(f"date {text!r}") from bad


def _money(value: object, currency: str = "CNY") -> str:
    try:
        amount = Decimal(str(value))
        if not amount.is_finite():
            raise MissingFact("amount")
    except (InvalidOperation, ValueError) as bad:
        raise MissingFact("amount") from bad
    sign = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£", "": "¥"}.get(str(currency), f"{currency} ")
    return f"{sign}{amount:,.2f}" if amount >= 1_000_000 else f"{sign}{amount:.2f}"


def _mask_phone(value: object) -> str:
    if isinstance(value, Undefined):
        raise MissingFact(str(value.name))
    return mask_phones(str(value))


def _join(value: object, separator: str = "、") -> str:
    if isinstance(value, Undefined):
        raise MissingFact(str(value.name))
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return separator.join(str(item) for item in cast("Sequence[object]", value))
    return str(value)


def _environment(zone: tzinfo) -> Environment:
    environment = _Sandbox(undefined=_Missing, strict_filters=True)
    environment.tags = {
        name: tag
        for name, tag in environment.tags.items()
        if name in _ALLOWED_TAGS or not name.isidentifier() or name in ("illegal", "content", "output")
    }
    environment.filters = {
        name: filter_ for name, filter_ in environment.filters.items() if name in _ALLOWED_FILTERS
    }

    def date_cn(value: object) -> str:
        moment = _moment(value, zone)
        return f"{moment.month}月{moment.day}日"

    def datetime_cn(value: object) -> str:
        moment = _moment(value, zone)
        return f"{moment.month}月{moment.day}日 {moment:%H:%M}"

    environment.add_filter("date_cn", date_cn)
    environment.add_filter("datetime_cn", datetime_cn)
    environment.add_filter("money", _money)
    environment.add_filter("mask_phone", _mask_phone)
    environment.add_filter("join", _join)
    return environment


class _Compiled:
    """A template ready to render, with the paths it compares or loops over (the unknown decides nothing)."""

    __slots__ = ("compared", "sentence", "template")

    def __init__(self, template: BoundTemplate) -> None:
        self.template = template
        self.sentence = Sentence.of(template)
        self.compared = tuple(_compared_paths(template))

    def render(self, facts: Mapping[str, Any]) -> str:
        if self.sentence is not None and (said := self.sentence.fill_in(facts)) is not None:
            return said
        for path in self.compared:
            _require(facts, path)
        # Not `template.render(facts)`, which copies the mapping and so would look up every fact there is.
        context = RenderContext(self.template, globals=facts)
        buffer = context.get_buffer()
        try:
            self.template.render_with_context(context, buffer)
        except LiquidError as bad:
            # A comparison of unlike values, or a limit: nothing that may reach a buyer half done.
            raise MissingFact(str(bad).splitlines()[0] if str(bad) else type(bad).__name__) from bad
        return buffer.getvalue()


def _require(facts: Mapping[str, Any], path: tuple[str | int, ...]) -> None:
    value: object = facts
    for segment in path:
        if segment == "size" and not isinstance(value, dict):
            return
        try:
            value = cast("Any", value)[segment]
        except (KeyError, IndexError, TypeError) as bad:
            raise MissingFact(".".join(map(str, path))) from bad


def _compared_paths(template: BoundTemplate) -> Iterator[tuple[str | int, ...]]:
    pending: list[Any] = list(template.nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, _COMPARISONS):
            sides = (node.left, node.right)
            if not any(isinstance(side, Nil | Blank | Empty) for side in sides):
                for side in sides:
                    if isinstance(side, Path) and side.path and side.path[0] in _ROOTS:
                        yield tuple(cast("list[str | int]", side.path))
        if (
            isinstance(node, LoopExpression)
            and isinstance(node.iterable, Path)
            and node.iterable.path[0] in _ROOTS
        ):
            yield tuple(cast("list[str | int]", node.iterable.path))
        if isinstance(node, BooleanExpression):
            pending.append(node.expression)
            continue
        for name in ("expressions", "children"):
            method = getattr(node, name, None)
            if method is None:
                continue
            try:
                pending.extend(method())
            except TypeError:
                pending.extend(method(None, include_partials=False))


_ROOTS = frozenset(name.split(".", 1)[0] for name in KNOWN_SLOTS)


def check_template(source: str) -> tuple[str, ...]:
    """Check an answer's template and return the slots it uses, sorted.

    Raises:
        InvalidError: it doesn't parse, uses a tag or filter that isn't allowed, or names an unknown slot (the message
            offers the nearest known name).
    """
    if _TAG.search(source) is None:
        return ()
    try:
        template = _environment(ZoneInfo("Asia/Shanghai")).from_string(source)
        analysis = template.analyze()
    except LiquidError as bad:
        raise _invalid(source, str(bad).splitlines()[0] or "this template doesn't parse") from bad
    for tag in analysis.tags:
        if tag not in _ALLOWED_TAGS:
            raise _invalid(source, f"tag {tag!r} is not allowed in an answer")
    for name in analysis.filters:
        if name not in _ALLOWED_FILTERS:
            near = difflib.get_close_matches(name, sorted(_ALLOWED_FILTERS), n=1)
            raise _invalid(
                source, f"unknown filter {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    slots: set[str] = set()
    for variables in analysis.globals.values():
        for variable in variables:
            slots.add(_slot_name(variable.segments))
    for slot in sorted(slots):
        if not is_known_slot(slot):
            plain = _PATH_INDEX.sub("[0]", slot)
            near = difflib.get_close_matches(plain, sorted(KNOWN_SLOTS), n=1, cutoff=0.4)
            raise _invalid(
                source,
                f"unknown slot {slot!r}" + (f"; the nearest known one is {near[0]!r}" if near else ""),
                fix=near[0] if near else "",
            )
    return tuple(sorted(slots))


def _slot_name(segments: Sequence[object]) -> str:
    name = ""
    for segment in segments:
        if isinstance(segment, int):
            name += f"[{segment}]"
        elif isinstance(segment, str):
            name += f".{segment}" if name else segment
        else:
            name += "[0]"
    return name.removesuffix(".size").removesuffix(".first").removesuffix(".last")


def _invalid(source: str, message: str, fix: str = "") -> InvalidError:
    return InvalidError(
        f"{message} (in {source[:60]!r})",
        code="template_invalid",
        errors=[FieldProblem("answer", message, fix)],
    )


class TemplateSet:
    """Compiles templates when first needed and keeps them; one set serves every shop and knowledge version."""

    def __init__(self) -> None:
        self._environments: dict[str, Environment] = {}
        self._compiled: dict[tuple[str, str], _Compiled | None] = {}

    def render(self, source: str, facts: Mapping[str, Any], tz: str = "Asia/Shanghai") -> str:
        """Return the text with its slots filled in; times in ``tz``.

        Raises:
            MissingFact: a slot without a value, or a template that can't be rendered with these values.
        """
        key = (tz, source)
        try:
            compiled = self._compiled[key]
        except KeyError:
            compiled = self._compile(key)
        if compiled is None:
            return source
        return compiled.render(facts)

    def is_static(self, source: str) -> bool:
        """Whether a text has no tags, and so is sent exactly as written."""
        return "{{" not in source and "{%" not in source

    def slots(self, source: str) -> frozenset[str]:
        """Return the roots of the slots a text uses (``order``, ``shop`` …); empty for plain text."""
        if self.is_static(source):
            return frozenset()
        try:
            return frozenset(slot.split(".", 1)[0] for slot in _used(self._environment("UTC"), source))
        except LiquidError:
            return frozenset()

    def _environment(self, tz: str) -> Environment:
        environment = self._environments.get(tz)
        if environment is None:
            environment = self._environments[tz] = _environment(ZoneInfo(tz))
        return environment

    def _compile(self, key: tuple[str, str]) -> _Compiled | None:
        tz, source = key
        if len(self._compiled) >= _CACHE_LIMIT:
            self._compiled.clear()
        compiled: _Compiled | None = None
        if not self.is_static(source):
            try:
                compiled = _Compiled(self._environment(tz).from_string(source))
            except LiquidError as bad:
                raise MissingFact("template") from bad
        self._compiled[key] = compiled
        return compiled


def _used(environment: Environment, source: str) -> Iterator[str]:
    for variables in environment.from_string(source).analyze().globals.values():
        for variable in variables:
            yield _slot_name(variable.segments)
