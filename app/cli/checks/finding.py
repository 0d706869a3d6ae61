"""What a check found: in Chinese and English, with the way to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Finding", "Level", "error", "info", "ok", "skipped", "warning"]


class Level(StrEnum):
    """How much a finding matters. Only an ERROR makes the examination fail."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    OK = "ok"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; ``check`` is a stable code."""

    check: str
    level: Level
    zh: str
    en: str
    mend_zh: str = ""
    mend_en: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "check": self.check,
            "level": self.level.value,
            "message": {"zh": self.zh, "en": self.en},
            "mend": {"zh": self.mend_zh, "en": self.mend_en} if self.mend_zh else None,
        }


def error(check: str, zh: str, en: str, mend_zh: str, mend_en: str) -> Finding:
    """Something doesn't work."""
    return Finding(check, Level.ERROR, zh, en, mend_zh, mend_en)


def warning(check: str, zh: str, en: str, mend_zh: str, mend_en: str) -> Finding:
    """Something will hurt, or wants a look."""
    return Finding(check, Level.WARNING, zh, en, mend_zh, mend_en)


def info(check: str, zh: str, en: str) -> Finding:
    """Something worth knowing."""
    return Finding(check, Level.INFO, zh, en)


def ok(check: str, zh: str, en: str) -> Finding:
    """A check that passed."""
    return Finding(check, Level.OK, zh, en)


def skipped(check: str, zh: str, en: str) -> Finding:
    """A check that doesn't apply here, and why."""
    return Finding(check, Level.SKIPPED, zh, en)
