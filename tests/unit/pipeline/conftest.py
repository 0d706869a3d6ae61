"""The desk's small shop, for what the pipeline does with it."""

from __future__ import annotations

from tests.unit.desk.conftest import lite, world

__all__ = ["lite", "world"]
