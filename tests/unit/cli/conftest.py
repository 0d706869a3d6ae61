"""The command line run inside the test's own process, in a folder of its own."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from app.cli.program import run


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one document on stdout."""
        return orjson.loads(self.out)

    @property
    def reason(self) -> str:
        """The line of stderr that says why it failed; there is exactly one, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("huoji: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("huoji: ")


Huoji = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that commands run in, with their default database below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUOJI_LANG", "en")
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield tmp_path
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)


@pytest.fixture
def huoji(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Huoji:
    """`huoji("user", "list")` runs a command; `stdin=` is what it reads."""
    assert folder == Path.cwd()

    def call(*arguments: str | os.PathLike[str], stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = run([os.fspath(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return call
