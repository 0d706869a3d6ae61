"""Log lines: structured, redacted, and never in the way."""

import errno
import io
import json
import logging
import queue
from collections.abc import Iterator

import pytest
import structlog

from app.core.logging import LogPipe, LogSink, configure_logging, redact
from app.core.metrics import Metrics


@pytest.fixture
def sink() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers, root.level
    stream = io.StringIO()
    listener = configure_logging(metrics=Metrics(), stream=stream)
    yield stream
    listener.stop()
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def flush() -> None:
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, LogPipe)
    lines = handler.queue
    assert isinstance(lines, queue.Queue)
    while not lines.empty():
        pass


def test_secrets_are_hidden_by_name_and_personal_data_by_shape() -> None:
    event = redact(
        None,
        "info",
        {
            "event": "buyer 13912341111 wrote",
            "callback_secret": "whsec_abc",
            "headers": {"Authorization": "Bearer abc", "webhook-id": "evt-1"},
            "texts": ["mail me at wang@example.com"],
            "rows": 3,
        },
    )
    assert event == {
        "event": "buyer 139****1111 wrote",
        "callback_secret": "***",
        "headers": {"Authorization": "***", "webhook-id": "evt-1"},
        "texts": ["mail me at w***@example.com"],
        "rows": 3,
    }


def test_our_lines_and_the_libraries_lines_are_json_and_redacted(sink: io.StringIO) -> None:
    structlog.get_logger("app.test").warning("delivery.failed", attempt=3, token="t-1")
    logging.getLogger("uvicorn.error").warning("call 13912341111")
    flush()
    logging.getLogger().handlers[0].flush()
    lines: list[dict[str, object]] = []
    for _ in range(1000):
        lines = [json.loads(line) for line in sink.getvalue().splitlines()]
        if len(lines) == 2:
            break
    assert lines[0]["event"] == "delivery.failed"
    assert lines[0]["attempt"] == 3
    assert lines[0]["token"] == "***"
    assert lines[1]["event"] == "call 139****1111"


def test_a_blocked_sink_drops_lines_and_counts_them() -> None:
    metrics = Metrics()
    lines: queue.Queue[logging.LogRecord] = queue.Queue(1)
    pipe = LogPipe(lines, metrics)
    for number in range(3):
        pipe.enqueue(logging.LogRecord("x", logging.INFO, "x", 1, f"line {number}", None, None))
    assert lines.qsize() == 1
    assert b"huoji_logs_dropped_total 2.0" in metrics.render()


class FullDisk(io.StringIO):
    """A stream on a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")


def test_lines_for_which_the_disk_has_no_room_are_counted_and_nothing_is_said_about_them(
    capfd: pytest.CaptureFixture[str],
) -> None:
    metrics = Metrics()
    sink = LogSink(FullDisk(), metrics)
    for number in range(3):
        sink.handle(logging.LogRecord("x", logging.INFO, "x", 1, f"line {number}", None, None))
    assert b"huoji_logs_dropped_total 3.0" in metrics.render()
    assert capfd.readouterr().err == ""


def test_a_line_that_can_not_be_made_is_told_as_ever(capfd: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics()
    LogSink(io.StringIO(), metrics).handle(logging.LogRecord("x", logging.INFO, "x", 1, "%d", ("one",), None))
    assert b"huoji_logs_dropped_total 0.0" in metrics.render()
    assert "Logging error" in capfd.readouterr().err


def test_trace_ids_stay_whole_and_what_only_looks_like_one_does_not() -> None:
    ids = ["13912341111", "6222021234567890123", "0af7651916cd43dd8448eb211c80319c"]
    event = {"trace_id": ids[0], "merged_trace_ids": ids[1:]}
    assert redact(None, "debug", dict(event)) == event
    assert redact(None, "debug", {"trace_id": "call 13912341111"}) == {"trace_id": "call 139****1111"}


def test_our_lines_of_level_debug_are_shown_on_request_and_the_libraries_never() -> None:
    root, ours = logging.getLogger(), logging.getLogger("app")
    before = root.handlers, root.level, ours.level
    stream = io.StringIO()
    listener = configure_logging(metrics=Metrics(), level="DEBUG", stream=stream)
    try:
        structlog.get_logger("app.test").debug("turn.decided")
        logging.getLogger("websockets.server").debug("> TEXT 13912341111")
    finally:
        listener.stop()
        root.handlers, root.level, ours.level = before
        structlog.reset_defaults()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["turn.decided"]
