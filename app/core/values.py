"""Immutable values that are cheap to make: frozen for the type checker, plain at run time.

A frozen dataclass writes every field through ``object.__setattr__``, four times the cost of a plain assignment, and a
message makes some twenty of them. ``@value`` takes the arguments of ``@dataclass(frozen=True, slots=True)`` and reads
as such to the type checker, which refuses assignment; at run time equality, hash and ``replace`` are the same and only
the guard against assignment is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

__all__ = ["value"]

if TYPE_CHECKING:
    value = dataclass
else:

    def value(*, frozen: bool, slots: bool = True, kw_only: bool = False) -> Any:
        """Make a class a value; ``frozen`` is what the type checker holds callers to."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)
