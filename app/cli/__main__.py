"""``python -m app.cli``: the same as ``huoji``."""

from __future__ import annotations

from app.cli import main

main()
