"""Checks of an account's settings that channels share; every problem names its field and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from app.channels import signing
from app.channels.addresses import AddressPolicy, url_problem
from app.channels.base import SettingField, SettingValues
from app.core.errors import FieldProblem

__all__ = ["check_fields", "check_secrets", "check_urls", "values_of"]


def values_of(settings: SettingValues, name: str) -> tuple[str, ...]:
    """Return the values given for one setting, in order; none when it is missing."""
    value = settings.get(name)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def check_fields(settings: SettingValues, fields: Sequence[SettingField]) -> list[FieldProblem]:
    """Return a problem for every unknown setting, and for every one given more often than it may be."""
    known = {field.name: field for field in fields}
    problems: list[FieldProblem] = []
    for name in settings:
        field = known.get(name)
        if field is None:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
            problems.append(FieldProblem(name, "is no setting of this channel", fix))
        elif len(values_of(settings, name)) > field.most:
            problems.append(
                FieldProblem(name, f"is given more than {field.most} times", "leave the oldest out")
            )
    return problems


def check_secrets(secrets: Sequence[str]) -> list[FieldProblem]:
    """Return what is wrong with Standard Webhooks secrets; none of them is repeated in a message."""
    fix = f"{signing.SECRET_PREFIX} and the base64 of at least {signing.MIN_KEY_BYTES} random bytes"
    problems: list[FieldProblem] = []
    for secret in secrets:
        try:
            key = signing.open_secret(secret)
        except ValueError:
            problems.append(FieldProblem("secret", "can't be read", fix))
            continue
        if len(key) < signing.MIN_KEY_BYTES:
            problems.append(FieldProblem("secret", f"is shorter than {signing.MIN_KEY_BYTES} bytes", fix))
    return problems


def check_urls(settings: SettingValues, names: Sequence[str], policy: AddressPolicy) -> list[FieldProblem]:
    """Return what is wrong with the settings that are addresses we call."""
    problems: list[FieldProblem] = []
    for name in names:
        for value in values_of(settings, name):
            problem = url_problem(value, policy)
            if problem is not None:
                problems.append(
                    FieldProblem(
                        name, f"url_not_allowed: {problem}", "a public http(s) address without credentials"
                    )
                )
    return problems
