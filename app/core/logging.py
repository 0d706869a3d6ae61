"""Structured logs: one JSON object a line, never a secret, a token or a buyer's phone or address.

Logging must not hold up requests: lines go through a bounded queue to a thread of their own; when the sink is blocked,
or its disk is full, lines are dropped and counted.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import queue
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import IO, Any

import orjson
import structlog

from app.core.metrics import Metrics
from app.core.pii import mask_text

__all__ = ["LogPipe", "LogSink", "configure_logging", "redact"]

_SECRET_NAMES = ("secret", "token", "password", "authorization", "cookie", "signature", "csrf", "api_key")
_TRACE_NAMES = frozenset({"trace_id", "merged_trace_ids"})
_TRACE_ID = re.compile(r"[0-9a-f]{1,32}")
_QUEUE_LINES = 10_000


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what must not be logged: secret-looking fields whole, personal data inside every text."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: Any) -> Any:
    if any(word in name.lower() for word in _SECRET_NAMES) and isinstance(value, (str, bytes)):
        return "***"
    if isinstance(value, str):
        # Digits in a row, as in a telephone number; masked, nothing could be found by them.
        return value if name in _TRACE_NAMES and _TRACE_ID.fullmatch(value) else mask_text(value)
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return [_redacted(name, item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _dumps(value: Any, **_options: Any) -> str:
    return orjson.dumps(value, default=str).decode()


class LogPipe(logging.handlers.QueueHandler):
    """Puts records on a bounded queue; a full queue drops the record and counts it."""

    def __init__(self, lines: queue.Queue[Any], metrics: Metrics) -> None:
        super().__init__(lines)
        self._metrics = metrics

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._metrics.logs_dropped.inc()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class LogSink(logging.StreamHandler[IO[str]]):
    """Writes lines to a stream; one that can't be written is dropped and counted.

    Saying so where the line should have gone would fail as well.
    """

    def __init__(self, stream: IO[str], metrics: Metrics) -> None:
        super().__init__(stream)
        self._metrics = metrics

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Count a line that the stream refused; a bug in a line is told as ever."""
        if isinstance(sys.exception(), OSError):
            self._metrics.logs_dropped.inc()
        else:
            super().handleError(record)


def _unbuffered(stream: IO[str]) -> IO[str]:
    # Every line is flushed anyway. What a full disk refused would stay in a buffer, and fail once more when Python
    # flushes at the end: the program would end with status 120.
    try:
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def configure_logging(
    *, metrics: Metrics, level: str = "INFO", pretty: bool = False, stream: IO[str] | None = None
) -> logging.handlers.QueueListener:
    """Send our logs, and those of the libraries, as redacted lines to ``stream`` (stderr). Returns the started writer.

    ``level`` DEBUG is for our own lines; libraries stay at INFO.

    ``pretty`` is for a terminal; otherwise every line is one JSON object with ``event``, ``level``, ``at`` and fields.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", key="at"),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=False)
        if pretty
        else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    sink = LogSink(_unbuffered(stream or sys.stderr), metrics)
    sink.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    lines: queue.Queue[Any] = queue.Queue(_QUEUE_LINES)
    listener = logging.handlers.QueueListener(lines, sink)
    listener.start()
    root = logging.getLogger()
    root.handlers = [LogPipe(lines, metrics)]
    # Libraries' own lines below this show what goes over the wire, buyers' words among it.
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level]))
    logging.getLogger("app").setLevel(level)
    for noisy in ("uvicorn.access", "aiosqlite", "asyncio", "httpx", "httpcore", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return listener
