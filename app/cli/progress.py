"""Progress of posting: a bar on a terminal, a plain line every few seconds elsewhere; always on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from app.cli.output import note
from app.core.clock import Clock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]

_LINE_SECONDS = 5.0


class Progress:
    """Shows how many messages are posted and settled."""

    def __init__(self, total: int, clock: Clock, *, is_terminal: bool | None = None) -> None:
        """``is_terminal`` None: as stderr is."""
        self._total = total
        self._clock = clock
        self._acked = self._refused = self._settled = 0
        self._said_at = clock.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty() if is_terminal is None else is_terminal:
            self._bar = _bar()
            self._posting = self._bar.add_task("已发送 posted", total=total)
            self._deciding = self._bar.add_task("已处理 settled", total=total)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif error is None:
            self._say()

    def posted(self, acked: int, refused: int) -> None:
        """Note how many lines were acked and refused so far."""
        self._acked, self._refused = acked, refused
        if self._bar is not None:
            self._bar.update(self._posting, completed=acked + refused)
        else:
            self._say_sometimes()

    def settled(self, count: int) -> None:
        """Note how many messages are decided or put aside so far."""
        self._settled = count
        if self._bar is not None:
            self._bar.update(self._deciding, completed=count)
        else:
            self._say_sometimes()

    def _say_sometimes(self) -> None:
        if self._clock.monotonic() - self._said_at >= _LINE_SECONDS:
            self._say()

    def _say(self) -> None:
        self._said_at = self._clock.monotonic()
        zh = f"已发送 {self._acked}/{self._total}，被拒 {self._refused}，已处理 {self._settled}"
        en = f"posted {self._acked}/{self._total}, refused {self._refused}, settled {self._settled}"
        note(zh, en)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=Console(stderr=True))
