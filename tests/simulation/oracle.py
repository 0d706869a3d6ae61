"""What must be true of a run: during it, at every commit and every send, and once everything has come to rest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from app.pipeline.shared_leases import LEASE_SECONDS
from tests.simulation.loop import Host
from tests.simulation.network import Arrival
from tests.simulation.rows import Rows
from tests.simulation.store import Request, Tell

__all__ = ["Oracle", "Posted"]

SEND_SECONDS = LEASE_SECONDS
"""How long after a human took over a reply may still leave that was looked at just before: a process that stands still
between its look and its send is sure of its lease for no longer than this."""


@dataclass(slots=True)
class Posted:
    """A buyer's message as the marketplace knows it: when first posted, and when acked."""

    account: str
    conversation: str
    name: str
    text: str
    posted_at: float | None = None
    acked_at: float | None = None


@dataclass(slots=True)
class _Reply:
    author: str
    conversation: int
    stored_at: float
    first_sent_at: float | None = None


@dataclass
class Oracle:
    """Watches a run, and collects what is wrong with it."""

    rows: Rows
    now: Callable[[], float]
    owner_prefix: Callable[[Host], str]
    """How the lease ids of the process on a host begin."""
    posted: dict[str, Posted] = field(default_factory=dict[str, Posted])
    findings: list[str] = field(default_factory=list[str])
    _replies: dict[int, _Reply] = field(default_factory=dict[int, _Reply])
    _checked_at: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])
    _human_since: dict[int, list[tuple[float, float]]] = field(
        default_factory=dict[int, list[tuple[float, float]]]
    )
    _unheard: dict[int, Host] = field(default_factory=dict[int, Host])
    """Conversations that a human took by way of a process which hasn't had the database's answer yet, nor has whoever
    asked it."""

    def found(self, what: str) -> None:
        """Note that something is wrong."""
        self.findings.append(f"at {self.now():.3f}: {what}")

    # --- while it runs ---

    def committed(self, request: Request, told: list[Tell]) -> None:
        """Look at a transaction that has just taken effect."""
        for what, one, first, second in told:
            match what:
                case "reply":
                    self._replies[one] = _Reply(first, second, self.now())
                case "inbox" if first in ("done", "parked"):
                    self._check_owner(request, second, f"inbox row {one} became {first}")
                case "outbox" if first in ("sent", "failed"):
                    self._check_owner(request, second, f"outbox row {one} became {first}")
                case "state":
                    self._note_state(one, first)
                    self._unheard[one] = request.host
                case _:
                    pass

    def _note_state(self, conversation: int, state: str) -> None:
        times = self._human_since.setdefault(conversation, [])
        if state == "human":
            times.append((self.now(), float("inf")))
        elif times and times[-1][1] == float("inf"):
            times[-1] = (times[-1][0], self.now())

    def _check_owner(self, request: Request, partition: int, what: str) -> None:
        ((owner, epoch),) = self.rows.all(
            "SELECT owner, epoch FROM partition_leases WHERE partition = ?", partition
        )
        # Free means that nobody has begun with it under a new epoch.
        if owner and not owner.startswith(self.owner_prefix(request.host)):
            self.found(f"{what} by {request.host}, but {owner} has partition {partition} (epoch {epoch})")

    def hears(self, host: Host, conversation: int) -> None:
        """A process has the answer to a change of its own."""
        if self._unheard.get(conversation) is host:
            del self._unheard[conversation]

    def checks(self, host: Host, outbox_id: int) -> None:
        """A sender begins to ask whether a reply may leave."""
        self._checked_at[host.name, outbox_id] = self.now()

    def sends(self, host: Host, key: str) -> None:
        """A message leaves a process."""
        reply = self._replies.get(int(key.removeprefix("msg_")))
        if reply is None:
            self.found(f"{key} left {host} before it was committed")
            return
        if reply.first_sent_at is not None:
            return
        reply.first_sent_at = now = self.now()
        if reply.author != "bot" or not self._is_supersedable(key):
            return
        if self._unheard.get(reply.conversation) is host:
            return
        checked_at = self._checked_at.get((host.name, int(key.removeprefix("msg_"))), now)
        for since, _until in self._human_since.get(reply.conversation, ()):
            if since <= reply.stored_at or since > now:
                continue
            if since < checked_at:
                self.found(
                    f"{key} left {host}, which looked at {checked_at:.3f}; a human came at {since:.3f}"
                )
            elif now - since > SEND_SECONDS:
                self.found(f"{key} left {host} {now - since:.3f} s after a human came")

    def _is_supersedable(self, key: str) -> bool:
        ((value,),) = self.rows.all(
            "SELECT supersedable FROM outbox WHERE id = ?", int(key.removeprefix("msg_"))
        )
        return bool(value)

    # --- at the end ---

    def is_at_rest(self) -> bool:
        """Whether everything posted is acked, and nothing is open."""
        if any(one.acked_at is None for one in self.posted.values()):
            return False
        ((left,),) = self.rows.all(
            "SELECT EXISTS (SELECT 1 FROM inbox WHERE state = 'open')"
            " OR EXISTS (SELECT 1 FROM outbox WHERE state = 'open')"
        )
        return not left

    def judge(self, arrivals: list[Arrival]) -> None:
        """Look at what is left when everything has come to rest."""
        self._judge_decisions()
        self._judge_deliveries(arrivals)
        self._judge_order(arrivals)

    def _judge_decisions(self) -> None:
        names = {
            str(one): name
            for one, name in self.rows.all("SELECT id, external_id FROM messages WHERE direction = 'in'")
        }
        decided: dict[str, int] = {}
        for (detail,) in self.rows.all("SELECT detail FROM decisions"):
            for one in orjson.loads(detail)["answered"]:
                name = names.get(one, f"message {one}")
                decided[name] = decided.get(name, 0) + 1
        kept = dict(
            self.rows.all("SELECT external_id, count(*) FROM messages WHERE direction = 'in' GROUP BY 1")
        )
        for name, one in self.posted.items():
            if one.acked_at is None:
                self.found(f"{name} was never acked")
            elif decided.get(name, 0) != 1 or kept.get(name, 0) != 1:
                self.found(
                    f"{name} was acked; it has {decided.get(name, 0)} decisions and {kept.get(name, 0)} messages"
                )
        for state, reason, number in self.rows.all(
            "SELECT state, reason, count(*) FROM inbox WHERE state <> 'done' GROUP BY 1, 2"
        ):
            self.found(f"{number} inbox rows are {state} ({reason})")

    def _judge_deliveries(self, arrivals: list[Arrival]) -> None:
        arrived = {arrival.key for arrival in arrivals}
        answers: dict[str, set[str]] = {}
        for arrival in arrivals:
            for name in _answered(arrival.text):
                answers.setdefault(name, set()).add(arrival.key)
        for name, keys in answers.items():
            if len(keys) > 1:
                self.found(f"{name} was answered under several keys: {sorted(keys)}")
        for one, state, error in self.rows.all("SELECT id, state, error FROM outbox"):
            reply = self._replies[one]
            match state:
                case "sent":
                    if f"msg_{one}" not in arrived:
                        self.found(f"msg_{one} is marked as sent and never arrived")
                case "dropped":
                    times = self._human_since.get(reply.conversation, ())
                    if not any(until >= reply.stored_at for _, until in times):
                        self.found(f"msg_{one} was dropped ({error}), and no human ever came")
                case _:
                    self.found(f"msg_{one} is {state} ({error})")

    def _judge_order(self, arrivals: list[Arrival]) -> None:
        first: dict[str, int] = {}
        for place, arrival in enumerate(arrivals):
            first.setdefault(arrival.key, place)
        by_conversation: dict[int, list[str]] = {}
        # What was dropped had left before a human came, or never did; when it arrives is up to the line.
        sent = self.rows.all("SELECT id, conversation_id FROM outbox WHERE state = 'sent' ORDER BY seq")
        for one, conversation in sent:
            if f"msg_{one}" in first:
                by_conversation.setdefault(conversation, []).append(f"msg_{one}")
        for keys in by_conversation.values():
            for one, other in itertools.pairwise(keys):
                if first[one] > first[other]:
                    self.found(f"{other} arrived before {one}, which was stored before it")
        place = {
            name: (conversation, seq)
            for name, conversation, seq in self.rows.all(
                "SELECT external_id, conversation_id, seq FROM messages WHERE direction = 'in' ORDER BY seq DESC"
            )
        }
        settled = {f"msg_{one}" for one, _ in sent}
        answered_at = {
            name: first[arrival.key]
            for arrival in reversed(arrivals)
            for name in _answered(arrival.text)
            if arrival.key in settled
        }
        for one in self.posted.values():
            for other in self.posted.values():
                if not _is_before(one, other) or one.name not in place or other.name not in place:
                    continue
                if place[one.name][1] > place[other.name][1]:
                    self.found(
                        f"{other.name} was worked off before {one.name}, which was acked before it came"
                    )
                if answered_at.get(one.name, -1) > answered_at.get(other.name, len(arrivals)):
                    self.found(f"{other.name} was answered before {one.name}, which was acked before it came")


def _answered(text: str) -> list[str]:
    return text.removeprefix("answer to ").split(",") if text.startswith("answer to ") else []


def _is_before(one: Posted, other: Posted) -> bool:
    return (
        (one.account, one.conversation) == (other.account, other.conversation)
        and one.acked_at is not None
        and other.posted_at is not None
        and one.acked_at < other.posted_at
    )
