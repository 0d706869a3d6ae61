"""Storing events where other processes store some for the same conversations.

A buyer's first message may have been acked by one process and the second be posted to the owner of the conversation,
who hasn't heard of the first yet. The transaction that stores the second sees the first, which was committed before it
was acked; so the owner takes from there what it doesn't know, and works it off first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, TEXT

from app.core.clock import Clock
from app.domain.messages import EventKind
from app.pipeline.inbox import InboxItem, InboxResult, StoreInbox
from app.storage.tables import inbox

__all__ = ["StoreSharedInbox"]

_SILENT = (EventKind.REJECTED, EventKind.IGNORED)

_OPEN_IN_LANES = text(
    "SELECT stored.id FROM unnest(:accounts, :lanes) AS wanted (account_id, lane_key)"
    " JOIN inbox AS stored ON stored.account_id = wanted.account_id AND stored.lane_key = wanted.lane_key"
    " WHERE stored.state = 'open'"
).bindparams(bindparam("accounts", type_=ARRAY(TEXT)), bindparam("lanes", type_=ARRAY(TEXT)))
_ROWS = (
    select(inbox)
    .where(inbox.c.state == "open", inbox.c.id == bindparam("ids", type_=ARRAY(BIGINT)).any_())
    .order_by(inbox.c.seq.nulls_first(), inbox.c.id)
)

LaneKey = tuple[str, str]


class StoreSharedInbox(StoreInbox):
    """Stores events like ``StoreInbox``, and finds what others stored before them."""

    def __init__(
        self,
        *,
        clock: Clock,
        is_shared: Callable[[], bool],
        epochs: Mapping[int, int],
        is_new: Callable[[int, float], bool],
    ) -> None:
        """``is_shared``: whether there are others; ``epochs``: the partitions owned; ``is_new``: as the lanes have it."""
        self._clock = clock
        self._is_shared = is_shared
        self._epochs = epochs
        self._is_new = is_new

    def apply(self, connection: Connection, items: Sequence[InboxItem]) -> Sequence[InboxResult | Exception]:
        """Insert what is new; look for what is earlier in the lanes of this process."""
        if not self._is_shared():
            return super().apply(connection, items)
        # The same webhooks may be posted to two processes at once: inserted in the same order by both, one waits for
        # the other, and never each for the other.
        ordered = sorted(items, key=lambda item: (item.account_id, item.event.dedupe_key))
        stored = super().apply(connection, ordered)
        by_id = {item.id: result for item, result in zip(ordered, stored, strict=True)}
        looked_at = self._clock.monotonic()
        mine = {
            (item.account_id, item.lane_key)
            for item in items
            if item.partition in self._epochs and item.event.kind not in _SILENT
        }
        earlier = self._earlier(connection, mine, {item.id for item in items}, looked_at)
        return [_with(by_id[item.id], earlier, item, looked_at) for item in items]

    def _earlier(
        self, connection: Connection, lanes: set[LaneKey], own: set[int], looked_at: float
    ) -> Mapping[LaneKey, list[Mapping[str, Any]]]:
        if not lanes:
            return {}
        wanted = sorted(lanes)
        values = {"accounts": [account for account, _ in wanted], "lanes": [lane for _, lane in wanted]}
        found = connection.execute(_OPEN_IN_LANES, values).scalars()
        unknown = [one for one in found if one not in own and self._is_new(one, looked_at)]
        if not unknown:
            return {}
        by_lane: dict[LaneKey, list[Mapping[str, Any]]] = {}
        for row in connection.execute(_ROWS, {"ids": unknown}).mappings():
            by_lane.setdefault((row["account_id"], row["lane_key"]), []).append(dict(row))
        return by_lane


def _with(
    result: InboxResult | Exception,
    earlier: Mapping[LaneKey, list[Mapping[str, Any]]],
    item: InboxItem,
    looked_at: float,
) -> InboxResult | Exception:
    found = earlier.get((item.account_id, item.lane_key))
    if not found or isinstance(result, Exception):
        return result
    return InboxResult(result.is_new, result.record, found, looked_at)
