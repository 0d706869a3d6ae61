"""What the wheel holds beside the modules: the shipped knowledge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedFiles(BuildHookInterface[Any]):
    """Adds `knowledge/` to a wheel that is to be installed elsewhere."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "editable" for a checkout, which finds the folder beside `app/` and needs no copy."""
        if version == "editable":
            return
        knowledge = Path(self.root) / "knowledge"
        build_data["force_include"][str(knowledge)] = "app/_shipped/knowledge"
