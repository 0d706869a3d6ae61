"""Templates that are only words and plain slots, filled in without Liquid's machinery.

Most answers and built-in texts are like '我们发{{ shop.courier }}。'. Such a template is taken apart once; filling it in
is then looking its slots up and joining. Whatever is out of the ordinary (a value that is missing, a list, a very long
text) isn't decided here: Liquid renders it, or says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from liquid import BoundTemplate
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode

__all__ = ["Sentence"]

_MOST_CHARACTERS = 4_000
"""Longer texts are left to Liquid, which limits them by their bytes."""
_NOT_A_KEY = frozenset({"size", "first", "last"})
"""Segments that Liquid takes for a question about a value when it has no such key."""


class Sentence:
    """A template's words and slots in order."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[str | tuple[str | int, ...], ...]) -> None:
        self._parts = parts

    @classmethod
    def of(cls, template: BoundTemplate) -> Sentence | None:
        """Take a template apart; None when it holds more than words and plain slots."""
        parts: list[str | tuple[str | int, ...]] = []
        for node in template.nodes:
            if type(node) is ContentNode:
                parts.append(node.text)
                continue
            expression = node.expression if type(node) is OutputNode else None
            if type(expression) is not FilteredExpression or expression.filters:
                return None
            path = expression.left.path if type(expression.left) is Path else None
            if not path or not isinstance(path[0], str):
                return None
            if any(not isinstance(segment, str | int) or segment in _NOT_A_KEY for segment in path):
                return None
            parts.append(tuple(segment for segment in path if isinstance(segment, str | int)))
        return cls(tuple(parts))

    def fill_in(self, facts: Mapping[str, Any]) -> str | None:
        """Return the text, or None when a slot isn't there or holds anything but a text or a whole number."""
        said = ""
        for part in self._parts:
            if type(part) is str:
                said += part
                continue
            value: Any = facts
            try:
                for segment in part:
                    if isinstance(value, str):
                        return None
                    value = value[segment]
            except (KeyError, IndexError, TypeError):
                return None
            if type(value) is str:
                said += value
            elif type(value) is int:
                said += str(value)
            else:
                return None
        return said if len(said) <= _MOST_CHARACTERS else None
