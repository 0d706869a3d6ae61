"""The ``huoji`` command: one module a group of commands; what is heavy is imported by the command that needs it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and end it with the command's status."""
    from app.cli.program import run

    sys.exit(run(sys.argv[1:]))
