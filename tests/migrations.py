"""Later versions of the program, as far as the database can tell: the migrations there are, and some of a test's own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.storage import schema

_SCRIPT = '''"""A migration of a test."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}
branch_labels = None
depends_on = None
{declared}


def upgrade():
    {operations}


def downgrade():
    pass
'''

_PROGRAM = """
import sys
from pathlib import Path
from app.storage import schema
import app
schema.SCRIPTS = Path({scripts!r})
schema.REVISIONS = {revisions!r}
schema.HEAD = schema.REVISIONS[-1]
app.__version__ = schema.__version__ = {version!r}
from app.cli import main
sys.exit(main())
"""

COLUMN = "op.add_column('inbox', sa.Column('mood', sa.Text(), nullable=True))"
"""An operation that programs from before needn't know of."""


@dataclass(frozen=True)
class Step:
    """One migration of a test: what it does, and what it declares of itself."""

    operations: str = COLUMN
    declared: str = "kind = 'expand'"


class LaterVersion:
    """A program with more migrations than this one, numbered from 9001, in a folder of its own."""

    version = "99.1.0"

    def __init__(self, folder: Path, steps: Sequence[Step] = (Step(),)) -> None:
        self.scripts = folder / "migrations"
        shutil.copytree(schema.SCRIPTS, self.scripts, ignore=shutil.ignore_patterns("__pycache__"))
        self.revisions = schema.REVISIONS
        for number, step in enumerate(steps, 9001):
            script = _SCRIPT.format(
                revision=number,
                before=self.revisions[-1],
                declared=step.declared,
                operations=step.operations,
            )
            (self.scripts / "versions" / f"{number}_test.py").write_text(script, encoding="utf-8")
            self.revisions = (*self.revisions, str(number))

    def take_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process be that program, until the patches are undone."""
        monkeypatch.setattr(schema, "SCRIPTS", self.scripts)
        monkeypatch.setattr(schema, "REVISIONS", self.revisions)
        monkeypatch.setattr(schema, "HEAD", self.revisions[-1])
        monkeypatch.setattr(schema, "__version__", self.version)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs it as a program of its own: its `huoji`."""
        program = _PROGRAM.format(scripts=str(self.scripts), revisions=self.revisions, version=self.version)
        return [sys.executable, "-c", program, *arguments]
