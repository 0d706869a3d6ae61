"""Immutable values that are cheap to make: frozen for the type checker, plain at run time.

A frozen dataclass writes every field through ``object.__setattr__``, four times the cost of a plain assignment, and a
message makes some twenty of them. ``@value`` takes the arguments of ``@dataclass(frozen=True, slots=True)`` and reads
as such to the type checker, which refuses assignment; at run time equality, hash and ``replace`` are the same and only
the guard against assignment is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["changed", "value"]

T = TypeVar("T")

if TYPE_CHECKING:
    value = dataclass
else:

    def value(*, frozen: bool, slots: bool = True, kw_only: bool = False) -> Any:
        """Make a class a value; ``frozen`` is what the type checker holds callers to."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)


def changed(one: T, **changes: Any) -> T:
    """Return a copy of a dataclass instance with fields changed: ``dataclasses.replace`` at a third of its cost.

    Every field must be one that its ``__init__`` takes; there must be at least two.
    """
    make: Any = type(one)
    names, read = _shape(make)
    return make(**dict(zip(names, read(one), strict=True)) | changes)


@lru_cache(maxsize=256)
def _shape(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(field.name for field in fields(kind))
    return names, attrgetter(*names)
