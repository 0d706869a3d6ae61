"""A shop's settings and shop objects (files, ``shop set``, scenarios) as the policy every stage reads.

Source: the contracts page, section 7, and the shop object of the scenario format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.core.errors import FieldProblem, InvalidError
from app.domain.shops import HoursSpan, ShopMode, ShopPolicy
from app.knowledge.shop_settings import SETTINGS, ShopSettings, misspelt_setting
from app.knowledge.times import parse_span
from app.knowledge.yaml_text import YamlProblem, read_yaml

__all__ = ["parse_shop", "read_shop_file", "setting_from_text"]

_POLICY_KEYS = frozenset(field.name for field in fields(ShopPolicy)) - {"id", "version", "facts"}
_TEXT_KEYS = frozenset({"name", "tz", "mode", "welcome", "bot_name", "off_hours", "language", "repeat_guard"})


def parse_shop(
    shop_id: str,
    settings: Mapping[str, Any],
    *,
    burst_quiet: float = 2.5,
    burst_max: float = 8.0,
    version: int = 0,
) -> ShopPolicy:
    """Check a shop's settings and return its policy, defaults filled in.

    Args:
        shop_id: our id of the shop; also its name where the settings give none.
        settings: names to values as JSON has them. Unknown names are facts; a near miss of a known name is refused.
        burst_quiet: seconds a burst stays open after a message, where the shop sets none.
        burst_max: seconds a burst stays open in all, where the shop sets none.
        version: the settings' version, for whoever caches the policy.

    Raises:
        InvalidError: code ``shop_invalid``, with one problem for each field.
    """
    problems = [
        FieldProblem(key, f"unknown setting {key}", f"did you mean {near}?")
        for key in settings
        if (near := misspelt_setting(key)) is not None
    ]
    try:
        checked = SETTINGS.validate_python(dict(settings))
    except ValidationError as error:
        problems.extend(_problem(details) for details in error.errors(include_url=False))
        raise _invalid(shop_id, problems) from None
    values = cast("dict[str, Any]", {key: value for key, value in checked.items() if key in _POLICY_KEYS})
    problems.extend(_contradictions(checked))
    if problems:
        raise _invalid(shop_id, problems)
    quiet, longest = _burst(checked, burst_quiet, burst_max)
    values |= {
        "name": checked.get("name") or shop_id,
        "mode": ShopMode(checked.get("mode", "auto")),
        # An empty welcome is a choice (none); only an unset one means the built-in text.
        "welcome": checked.get("welcome"),
        "off_hours": checked.get("off_hours") or None,
        "hours": {
            group: tuple(HoursSpan(*parse_span(span)) for span in spans)
            for group, spans in checked.get("hours", {}).items()
        },
        "vip_tiers": frozenset(checked.get("vip_tiers", ())),
        "burst_quiet": quiet,
        "burst_max": longest,
    }
    return ShopPolicy(
        id=shop_id,
        version=version,
        # Facts stay as they were given: checking is all that the models do to them.
        facts={key: value for key, value in settings.items() if key not in _POLICY_KEYS},
        **values,
    )


def _contradictions(settings: ShopSettings) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    quiet, longest = settings.get("burst_quiet"), settings.get("burst_max")
    if quiet is not None and longest is not None and longest < quiet:
        problems.append(FieldProblem("burst_max", "is shorter than burst_quiet", f"write at least {quiet:g}"))
    answer_at, ask_at = settings.get("answer_at"), settings.get("ask_at")
    if answer_at is not None and ask_at is not None and ask_at > answer_at:
        problems.append(FieldProblem("ask_at", "is above answer_at", f"write at most {answer_at:g}"))
    return problems


def _burst(settings: ShopSettings, quiet: float, longest: float) -> tuple[float, float]:
    # What the shop sets wins; a default that contradicts it gives way.
    if "burst_quiet" in settings:
        quiet = settings["burst_quiet"]
        return quiet, settings.get("burst_max", max(longest, quiet))
    longest = settings.get("burst_max", longest)
    return min(quiet, longest), longest


def _problem(details: ErrorDetails) -> FieldProblem:
    path = ".".join(str(step) for step in details["loc"])
    limits = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return FieldProblem(path, "is missing")
        case "string_type":
            return FieldProblem(path, "must be a text", "put it into quotes")
        case "literal_error":
            return FieldProblem(path, f"can't be {details['input']!r}", f"write {limits.get('expected', '')}")
        case "int_parsing" | "int_type" | "int_from_float":
            return FieldProblem(path, f"{details['input']!r} is no whole number", "write a number such as 7")
        case "float_parsing" | "float_type":
            return FieldProblem(path, f"{details['input']!r} is no number", "write a number such as 2.5")
        case "bool_parsing" | "bool_type":
            return FieldProblem(path, f"{details['input']!r} is neither on nor off", "write on or off")
        case "greater_than_equal":
            return FieldProblem(
                path, f"{details['input']!r} is too small", f"write at least {limits.get('ge')}"
            )
        case "less_than_equal":
            return FieldProblem(
                path, f"{details['input']!r} is too large", f"write at most {limits.get('le')}"
            )
        case _:
            return FieldProblem(path, details["msg"])


def _invalid(shop_id: str, problems: list[FieldProblem]) -> InvalidError:
    first = problems[0]
    fix = f" ({first.fix})" if first.fix else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidError(
        f"shop {shop_id}: {first.field}: {first.message}{fix}{more}", code="shop_invalid", errors=problems
    )


def setting_from_text(key: str, text: str) -> Any:
    """Read one ``key=value`` of a command line: JSON where it is JSON, else the text.

    Settings that are texts stay texts, so that ``name=2024`` or ``welcome=true`` mean what they say.
    """
    if key in _TEXT_KEYS:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def read_shop_file(path: Path) -> dict[str, Any]:
    """Read a shop object from a JSON or YAML file: the object itself, or one under ``shop`` (a scenario's line).

    Raises:
        InvalidError: no such file, or no such object in it; with its line where one is known.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror or 'cannot be read'}", code="shop_invalid") from None
    value = _parse_shop_file(path, data)
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        inner = found.get("shop")
        return cast("dict[str, Any]", inner) if isinstance(inner, dict) else found
    raise InvalidError(f"{path}: must hold one shop object", code="shop_invalid")


def _parse_shop_file(path: Path, data: bytes) -> object:
    if path.suffix not in (".yaml", ".yml"):
        try:
            # A scenario file has one object a line; its first one will do.
            return orjson.loads(
                data.split(b"\n", 1)[0] if path.suffix == ".jsonl" else data.removeprefix(b"\xef\xbb\xbf")
            )
        except orjson.JSONDecodeError as error:
            raise InvalidError(f"{path}:{error.lineno}: no JSON: {error.msg}", code="shop_invalid") from None
    try:
        return read_yaml(data, numbers=True).value
    except YamlProblem as problem:
        raise InvalidError(f"{path}:{problem.line}: {problem.message}", code="shop_invalid") from None
