"""Skipping for lack of a program, in a way that the end of the run can't hide."""

from __future__ import annotations

from typing import NoReturn

import pytest

MISSING = "MISSING PROGRAM: "
"""How the reason of such a skip begins; the closing summary looks for it."""


def skip_for_lack_of(program: str, install: str) -> NoReturn:
    """Skip the test because `program` isn't there; `install` says how to get it."""
    pytest.skip(f"{MISSING}{program} ({install})")
