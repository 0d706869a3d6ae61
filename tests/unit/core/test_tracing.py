"""Trace ids: taken over from a webhook that brings a valid one, else the inbox row's."""

from __future__ import annotations

import logging

import pytest
from structlog.testing import capture_logs

from app.core.tracing import Trail, trace_id_of, traced

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.parametrize("header", [PARENT, PARENT[:-2] + "00", f"cc-{TRACE}-b7ad6b7169203331-01-what-comes"])
def test_a_valid_trace_context_is_taken_over(header: str):
    assert trace_id_of({"traceparent": header}, 7) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        TRACE,
        PARENT.upper(),
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT + "-more",
        PARENT + "\n",
        f" {PARENT}",
        f"00-{TRACE[:-1]}-b7ad6b7169203331-01",
        f"cc-{TRACE}-b7ad6b7169203331-01-" + "x" * 1000,
        "13912341111",
    ],
)
def test_any_other_counts_as_none(header: str):
    assert trace_id_of({"traceparent": header}, 7) == "7"


def test_without_one_it_is_the_inbox_rows_id():
    assert trace_id_of({}, 9007199254740993) == "9007199254740993"


def test_of_merged_messages_each_is_found():
    assert traced(()) == {}
    assert traced(("a",)) == {"trace_id": "a"}
    assert traced(("a", "b", "c")) == {"trace_id": "a", "merged_trace_ids": ["b", "c"]}


def test_a_trail_is_followed_at_level_debug_alone():
    trail = Trail("app.test.trail")
    plain = logging.getLogger("app.test.trail")
    plain.setLevel(logging.INFO)
    assert not trail.is_followed
    plain.setLevel(logging.DEBUG)
    assert trail.is_followed
    with capture_logs() as lines:
        trail.note("turn.decided", ("a",), kind="answer")
    assert lines == [{"event": "turn.decided", "log_level": "debug", "trace_id": "a", "kind": "answer"}]
