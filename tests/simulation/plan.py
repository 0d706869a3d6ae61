"""What happens in a run, drawn from its seed: who writes what and when, and everything that goes wrong.

A plan is a list of steps, each of which can be left out without changing the others, so that a failing plan can be
made smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.parts import ACCOUNTS, FRAGMENT, HELP

__all__ = ["Plan", "Step", "make_plan"]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens ``at`` a second of virtual time; ``what`` names a method of the world."""

    at: float
    what: str
    values: dict[str, Any]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return f"{self.at:7.3f} {self.what}({values})"


@dataclass(slots=True)
class Plan:
    """The processes, what they run with, and the steps."""

    processes: int
    skews_ms: list[int]
    rates: list[float]
    burst_quiet: float
    one_machine: bool
    hints_lost: float
    steps: list[Step] = field(default_factory=list[Step])

    @property
    def ends_at(self) -> float:
        """When the last step is over and everything works again."""
        return max((step.at + step.values.get("seconds", 0.0) for step in self.steps), default=0.0)


def make_plan(seed: int) -> Plan:
    """Draw a plan."""
    chance = Random(f"plan {seed}")
    if seed % 4 == 3:
        return _rough_plan(chance)
    if seed % 8 == 5:
        return _stalled_plan(chance)
    processes = chance.choice((1, 2, 2, 3, 3))
    plan = Plan(
        processes=processes,
        skews_ms=[chance.choice((0, 0, 40, -700, 3_600_000, -3_600_000)) for _ in range(processes)],
        rates=[chance.choice((1.0, 1.0, 1.0001, 0.9999)) for _ in range(processes)],
        burst_quiet=chance.choice((0.0, 0.0, 0.6, 2.5)),
        one_machine=chance.random() < 0.3,
        hints_lost=chance.choice((0.0, 0.0, 0.3, 1.0)),
    )
    length = chance.uniform(3.0, 14.0)
    _messages(plan, chance, length)
    _agents(plan, chance, length)
    for _ in range(chance.choice((0, 1, 2, 2, 3, 4, 5))):
        plan.steps.append(_fault(plan, chance, chance.uniform(0.0, length)))
    plan.steps.sort(key=lambda step: step.at)
    return plan


def _rough_plan(chance: Random) -> Plan:
    """Draw a plan in which owners stand still in the middle of their work for longer than their leases."""
    plan = Plan(
        processes=2, skews_ms=[0, 0], rates=[1.0, 1.0], burst_quiet=0.0, one_machine=False,
        hints_lost=chance.choice((0.0, 0.3)),
    )  # fmt: skip
    length = 6.0
    for first in (0, 4):
        _messages(plan, chance, length, first)
    _agents(plan, chance, length)
    plan.steps.append(
        Step(
            0.0,
            "bad_store",
            {
                "slowest": chance.choice((0.3, 1.0)), "lost": 0.0, "unheard": chance.choice((0.0, 0.2)),
                "late": chance.choice((0.0, 0.2)), "collides": 0.0, "seconds": length,
            },
        )
    )  # fmt: skip
    line = {"refused": 0.1, "failed": 0.1, "busy": 0.0, "unheard": 0.3, "hangs": 0.0, "doubled": 0.0}
    plan.steps.append(Step(0.0, "bad_line", {"slowest": 1.0, **line, "seconds": length}))
    at = 0.0
    for _ in range(3):
        at += chance.uniform(0.2, 2.5)
        seconds = chance.uniform(5.0, 7.0)
        plan.steps.append(Step(at, "stall", {"slot": chance.randrange(2), "seconds": seconds}))
        at += seconds / 2
    if chance.random() < 0.3:
        plan.steps.append(_fault(plan, chance, chance.uniform(0.0, length)))
    plan.steps.sort(key=lambda step: step.at)
    return plan


def _stalled_plan(chance: Random) -> Plan:
    """Draw a plan in which an owner stands still just as it asks whether a reply may leave, and an agent comes."""
    plan = Plan(
        processes=2, skews_ms=[0, 0], rates=[1.0, 1.0], burst_quiet=0.0, one_machine=False, hints_lost=1.0
    )
    for first in (0, 4):
        _messages(plan, chance, 2.0, first)
    plan.steps.append(Step(0.0, "stall_asking", {"slot": 0, "seconds": chance.uniform(4.5, 8.0)}))
    # While its lease lasts: afterwards the next owner sends the reply.
    at = chance.uniform(1.5, 4.5)
    conversations = {step.values["conversation"] for step in plan.steps if step.what == "message"}
    for conversation in sorted(conversations):
        plan.steps.append(Step(at, "take_over", {"conversation": conversation}))
        if chance.random() < 0.5:
            plan.steps.append(
                Step(at + 0.5, "say", {"conversation": conversation, "text": f"agent {at:.3f}"})
            )
    plan.steps.sort(key=lambda step: step.at)
    return plan


def _messages(plan: Plan, chance: Random, length: float, first: int = 0) -> None:
    for number in range(chance.choice((1, 2, 2, 3, 4))):
        conversation = f"c{first + number}x{chance.randrange(1000)}"
        account = chance.choice(ACCOUNTS)
        at = chance.uniform(0.0, length / 2)
        waits = chance.random() < 0.6
        pace = chance.choice((0.01, 0.1, 1.0, 3.0))
        for index in range(chance.choice((1, 2, 3, 4, 6))):
            start = chance.choices(("", FRAGMENT, HELP), (80, 15, 5))[0]
            plan.steps.append(
                Step(
                    at,
                    "message",
                    {
                        "account": account,
                        "conversation": conversation,
                        "name": f"{conversation}-{index}",
                        "text": f"{start}question {index}",
                        # Whether the marketplace posts it only once the one before it is acked.
                        "waits": waits or chance.random() < 0.3,
                        "copies": chance.choices((0, 1, 2), (75, 20, 5))[0],
                    },
                )
            )
            at += pace * chance.random()


def _agents(plan: Plan, chance: Random, length: float) -> None:
    conversations = sorted({step.values["conversation"] for step in plan.steps if step.what == "message"})
    for conversation in conversations:
        if chance.random() > 0.45:
            continue
        at = chance.uniform(0.0, length)
        for _ in range(chance.choice((1, 1, 2))):
            plan.steps.append(Step(at, "take_over", {"conversation": conversation}))
            for index in range(chance.choice((0, 1, 2))):
                at += chance.choice((0.02, 0.5, 2.0)) * chance.random()
                plan.steps.append(
                    Step(at, "say", {"conversation": conversation, "text": f"agent {at:.3f} {index}"})
                )
            at += chance.choice((0.02, 0.5, 2.0)) * chance.random()
            if chance.random() < 0.8:
                plan.steps.append(Step(at, "give_back", {"conversation": conversation}))
            at += chance.uniform(0.0, 3.0)


def _fault(plan: Plan, chance: Random, at: float) -> Step:
    slot = chance.randrange(plan.processes)
    what = chance.choice(
        ("stall", "stall", "kill", "kill", "restart", "outage", "cut_off", "bad_store", "bad_store", "bad_line",
         "bad_line", "lose_hints", "jump")
    )  # fmt: skip
    match what:
        case "stall":
            values: dict[str, Any] = {
                "slot": slot,
                "seconds": chance.choice((0.3, 2.0, 4.5, 6.0, 12.0)) * chance.random(),
            }
        case "kill":
            values = {"slot": slot, "seconds": chance.choice((0.0, 0.5, 3.0, 8.0)) * chance.random()}
        case "restart":
            values = {"slot": slot, "seconds": 2.0 * chance.random()}
        case "outage":
            values = {
                "way": chance.choice(("refuse", "hang")),
                "seconds": chance.choice((0.5, 3.0, 9.0)) * chance.random(),
            }
        case "cut_off":
            values = {
                "slot": slot, "way": chance.choice(("refuse", "hang")),
                "seconds": chance.choice((0.5, 3.0, 9.0)) * chance.random(),
            }  # fmt: skip
        case "bad_store":
            values = {
                "slowest": chance.choice((0.01, 0.1, 1.0)), "lost": chance.choice((0.0, 0.1)),
                "unheard": chance.choice((0.0, 0.1, 0.3)), "late": chance.choice((0.0, 0.1, 0.3)),
                "collides": chance.choice((0.0, 0.1)), "seconds": chance.uniform(0.5, 8.0),
            }  # fmt: skip
        case "bad_line":
            values = {
                "slowest": chance.choice((0.08, 1.0)), "refused": chance.choice((0.0, 0.2)),
                "failed": chance.choice((0.0, 0.2)), "busy": chance.choice((0.0, 0.1)),
                "unheard": chance.choice((0.0, 0.2)), "hangs": chance.choice((0.0, 0.1)),
                "doubled": chance.choice((0.0, 0.2)), "seconds": chance.uniform(0.5, 10.0),
            }  # fmt: skip
        case "lose_hints":
            values = {"lost": chance.choice((0.5, 1.0)), "seconds": chance.uniform(0.5, 8.0)}
        case _:
            values = {"slot": slot, "by_ms": chance.choice((-3_600_000, -5_000, -300, 300, 5_000, 3_600_000))}
    return Step(at, what, values)
