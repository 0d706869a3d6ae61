"""One id for all that a webhook sets off, so that one search in the logs of all processes shows a message's whole way.

It is the trace id of the ``traceparent`` that the webhook came with, else the id of its inbox row. Both are stored with the
event, and the id with what is sent because of it, so that whichever process goes on with it logs the same.

Source: the ``traceparent`` header, https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

__all__ = ["TRACEPARENT", "Trail", "trace_id_of", "traced"]

TRACEPARENT = "traceparent"
"""The header's name."""

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)
_LONGEST = 512
"""Longer ones are no trace context; later versions of it may append fields to the 55 characters."""


def trace_id_of(headers: Mapping[str, str], inbox_id: int) -> str:
    """Return an event's trace id: 32 hexadecimal digits that it came with, else its inbox id in decimal digits.

    ``headers``: names in lower case. A ``traceparent`` that isn't valid counts as none.
    """
    given = headers.get(TRACEPARENT)
    if given is not None and len(given) <= _LONGEST:
        found = _TRACEPARENT.fullmatch(given)
        # Version 00 ends where it ends; only later ones may say more.
        if found is not None and (found[3] is None or found[1] != "00"):
            return found[2]
    return str(inbox_id)


def traced(trace_ids: Sequence[str]) -> dict[str, Any]:
    """Return the fields by which a log line is found: the first event's trace id, and those merged with it."""
    if not trace_ids:
        return {}
    if len(trace_ids) == 1:
        return {"trace_id": trace_ids[0]}
    return {"trace_id": trace_ids[0], "merged_trace_ids": list(trace_ids[1:])}


class Trail:
    """A module's lines, at level debug, about where messages are.

    Look at ``is_followed`` before making any: asking costs a hundredth of a line.
    """

    __slots__ = ("_log", "_plain")

    def __init__(self, name: str) -> None:
        """``name``: the module's."""
        self._plain = logging.getLogger(name)
        self._log = structlog.get_logger(name)

    @property
    def is_followed(self) -> bool:
        """Whether anybody reads it."""
        return self._plain.isEnabledFor(logging.DEBUG)

    def note(self, event: str, trace_ids: Sequence[str], **fields: Any) -> None:
        """Write a line: ids, codes and durations; never a text of a buyer's."""
        self._log.debug(event, **traced(trace_ids), **fields)
