"""The names that browsers and the API agree on."""

from __future__ import annotations

__all__ = ["CSRF_HEADER", "SESSION_COOKIE"]

SESSION_COOKIE = "huoji_session"
CSRF_HEADER = "x-csrf-token"
