"""Seeds in their hundreds, the same again for the same seed, and proof that the oracle sees what it is there to see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from app.delivery import marks
from app.delivery.service import DeliveryService
from app.domain.delivery import WireRequest, WireResponse
from app.pipeline import commit, inbox
from app.pipeline.commit import TurnCommit
from app.pipeline.inbox import Inbox
from app.pipeline.lanes import Lanes
from app.pipeline.outcomes import DeliveryOutcomes
from app.pipeline.records import ConversationRecord
from app.pipeline.shared_inbox import StoreSharedInbox
from app.pipeline.shared_leases import SharedLeases
from app.pipeline.turn_writer import TurnWriter
from tests.simulation.network import Client
from tests.simulation.process import Process
from tests.simulation.running import Simulator, report, simulator

SEEDS = 100
"""`make chaos-long` runs ten thousand, by the command."""
BATCH = 20
ROUGH_SEEDS = range(3, 400, 4)
"""Every fourth seed has a rough plan; within these each of the faults put into the program below must be found."""
STALLED_SEEDS = range(5, 400, 8)
"""Every eighth has a process stall just before it sends."""

FORMER_FINDINGS = {
    71: "a reply stored by a process whose clock was ahead waited an hour at the next owner of its partition",
    111: "the same, with an agent's message",
    3: "a message that may be part of a burst waited an hour when the clock was set back by one",
    2020: "a bot's reply overtook an agent's message after a commit that took too long",
    2466: "an agent's message, written by way of a process that was taken for dead, was overtaken",
    293: "a reply left after an agent had taken over by way of a process that was taken for dead",
    909: "the same, by way of one that had just joined again",
    1210: "a reply whose commit nobody heard of was overtaken by the conversation's next reply",
}


@pytest.fixture(scope="module")
def simulating() -> Iterator[Simulator]:
    """One simulator for all tests of this file: making its tables takes longer than a run."""
    with simulator() as made:
        yield made


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_disordered(simulating: Simulator, first: int) -> None:
    for seed in range(first, first + BATCH):
        if simulating.run(seed).findings:
            without, run = simulating.make_smaller(seed)
            pytest.fail(report(seed, without, run, with_trace=True))


@pytest.mark.parametrize("seed", FORMER_FINDINGS)
def test_what_was_found_once_stays_mended(simulating: Simulator, seed: int) -> None:
    run = simulating.run(seed)
    assert not run.findings, report(seed, (), run, with_trace=False)


def test_a_seed_runs_the_same_way_every_time(simulating: Simulator) -> None:
    for seed in (4, 17):
        once, again = simulating.run(seed), simulating.run(seed)
        assert once.trace == again.trace
        assert once.seconds == again.seconds


def test_a_failing_plan_is_made_smaller_and_tells_how_to_replay_it(
    simulating: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_row", _row_that_is_never_a_duplicate)
    seed = _first_found(simulating, ROUGH_SEEDS)
    before = simulating.run(seed)
    without, after = simulating.make_smaller(seed)
    assert without
    assert after.findings
    assert len(after.trace) < len(before.trace)
    listed = ",".join(map(str, without))
    told = report(seed, without, after, with_trace=True)
    assert f"python -m tests.simulation --seed {seed} --trace --without {listed}" in told
    assert simulating.run(seed, without=without).findings == after.findings


# --- faults put into the program, each of which must be found ---

_row = inbox._row
_objection = commit._objection


def _row_that_is_never_a_duplicate(item: Any) -> dict[str, Any]:
    return {**_row(item), "dedupe_key": f"{item.event.dedupe_key} {item.id}"}


def _without_deduplication(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inbox, "_row", _row_that_is_never_a_duplicate)


def _without_epochs(patch: pytest.MonkeyPatch) -> None:
    def objection(item: TurnCommit, epochs: Any, known: Any) -> Exception | None:
        return _objection(item, {item.partition: item.epoch}, known)

    patch.setattr(commit, "_objection", objection)


def _without_epochs_of_marks(patch: pytest.MonkeyPatch) -> None:
    write = marks.MarkDeliveries._write

    def apply(self: Any, connection: Any, items: Any) -> list[None]:
        write(self, connection, items)
        return [None] * len(items)

    patch.setattr(marks.MarkDeliveries, "apply", apply)


def _sent_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    original = TurnWriter.commit

    async def early(self: Any, turn: TurnCommit, record: ConversationRecord) -> ConversationRecord:
        self._on_committed(turn)
        return await original(self, turn, record)

    patch.setattr(TurnWriter, "commit", early)


def _acked_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    original = Inbox.accept

    async def early(self: Any, *values: Any) -> None:
        task = asyncio.get_running_loop().create_task(original(self, *values))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    patch.setattr(Inbox, "accept", early)


def _without_lanes(patch: pytest.MonkeyPatch) -> None:
    original = Lanes.push

    def push(self: Any, item: Any, result: Any = None) -> None:
        self._lanes.pop((item.account_id, item.lane_key), None)
        original(self, item, result)

    patch.setattr(Lanes, "push", push)


def _without_order_of_sends(patch: pytest.MonkeyPatch) -> None:
    original = DeliveryService.enqueued

    def enqueued(self: Any, items: Any) -> None:
        for item in items:
            self._lanes.pop(item.conversation_id, None)
            original(self, [item])

    patch.setattr(DeliveryService, "enqueued", enqueued)


def _without_looking_for_a_human(patch: pytest.MonkeyPatch) -> None:
    async def never(self: Any, item: Any) -> bool:
        return False

    patch.setattr(DeliveryOutcomes, "is_superseded", never)
    patch.setattr(Process, "_changed_elsewhere", lambda self, payload: None)


def _without_doubt_after_a_stall(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedLeases, "holds", lambda self, partition: partition in self.epochs)


def _unknown_outcomes_taken_for_sent(patch: pytest.MonkeyPatch) -> None:
    original = Client.send

    async def send(self: Any, request: WireRequest, *, timeout: float) -> WireResponse:
        try:
            return await original(self, request, timeout=timeout)
        except Exception:  # noqa: BLE001 - whatever it was, it is taken for a success
            return WireResponse(status=200, headers={}, body=b"")

    patch.setattr(Client, "send", send)


def _without_what_others_stored_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StoreSharedInbox, "_earlier", lambda *values: {})


def _repeated_commits_not_recognised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commit, "_is_done", lambda connection, item: False)


def _first_found(simulating: Simulator, seeds: Iterable[int]) -> int:
    for seed in seeds:
        if simulating.run(seed).findings:
            return seed
    pytest.fail(f"not found in {seeds}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_without_deduplication, ("decisions", "several keys", "messages")),
        (_without_epochs, ("has partition", "several keys", "decisions")),
        (_without_epochs_of_marks, ("has partition",)),
        (_sent_before_the_commit, ("before it was committed",)),
        (_acked_before_the_commit, ("0 decisions", "acked before it came")),
        (_without_lanes, ("before", "decisions", "parked")),
        (_without_order_of_sends, ("arrived before", "answered before")),
        (_without_looking_for_a_human, ("a human came",)),
        (_without_doubt_after_a_stall, ("a human came", "arrived before")),
        (_unknown_outcomes_taken_for_sent, ("never arrived",)),
        (_without_what_others_stored_before, ("before",)),
        (_repeated_commits_not_recognised, ("decisions", "several keys")),
    ],
    ids=lambda value: value.__name__.removeprefix("_") if callable(value) else "",
)
@pytest.mark.timeout(600)
def test_a_fault_put_into_the_program_is_found(
    simulating: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch], None],
    words: tuple[str, ...],
) -> None:
    fault(monkeypatch)
    # A finding is enough; nothing need come to rest any more.
    monkeypatch.setattr("tests.simulation.world.REST_SECONDS", 60.0)
    seed = _first_found(simulating, STALLED_SEEDS if fault is _without_doubt_after_a_stall else ROUGH_SEEDS)
    findings = simulating.run(seed).findings
    assert any(word in finding for finding in findings for word in words), findings


def test_the_oracle_is_silent_about_what_the_documents_allow(simulating: Simulator) -> None:
    """A repeat under the same key is no finding; the runs of the first seeds have plenty."""
    repeats = sum(
        run.counts["repeats"] for run in (simulating.run(seed) for seed in range(12)) if not run.findings
    )
    assert repeats > 0
