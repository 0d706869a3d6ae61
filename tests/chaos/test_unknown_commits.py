"""Commits whose answers are lost: the database has them, and the program is told that it failed.

Source: the faults to survive, F15.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from app.storage.tables import conversations, delivery_attempts, inbox, messages, outbox
from tests.installation import QUESTIONS, install
from tests.marketplace import Marketplace
from tests.running import Callback, Running
from tests.waiting import eventually, pause

SHARE = 0.3
"""Of the commits, so many are taken for failures."""


@pytest.fixture
async def url(postgres_url: str, tmp_path: Path) -> str:
    """An installation with one account. (Of a commit in a file of its own the program always knows what became.)"""
    await install(postgres_url, tmp_path, Marketplace())
    return postgres_url


@pytest.fixture
def callback() -> Callback:
    """The marketplace's end."""
    return Callback()


@pytest.fixture
async def running(url: str, callback: Callback) -> AsyncIterator[Running]:
    """The program on it."""
    async with Running(url, callback) as running:
        yield running


def lose_answers(running: Running, seed: int) -> Callable[[], int]:
    """From now on, make a share of the commits look like failures though they happened; returns how many did so far."""
    writer = cast(Any, running.application.database.writer)
    run = writer._run
    rng = random.Random(seed)
    lost = 0

    async def and_lose(function: Callable[[Connection], Any]) -> Any:
        nonlocal lost
        outcome = await run(function)
        if rng.random() < SHARE:
            lost += 1
            raise ConnectionResetError("the answer was lost")
        return outcome

    writer._run = and_lose
    return lambda: lost


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_was_committed_unheard_is_never_done_again(
    running: Running, callback: Callback, seed: int
) -> None:
    lost = lose_answers(running, seed)
    acked: dict[str, list[str]] = defaultdict(list)

    async def buyer(number: int) -> None:
        for n, text in enumerate([*QUESTIONS] * 3):
            name = f"m-{number}-{n}"
            while await running.say(text, message_id=name, conversation_id=f"c-{number}") != 200:
                await pause(0.01)
            acked[f"c-{number}"].append(name)

    await asyncio.gather(*(buyer(number) for number in range(8)))

    async def all_is_done() -> bool:
        # Of what was stored unheard the program learns by looking into the database.
        rows = await running.rows(inbox) + await running.rows(outbox)
        return {row["state"] for row in rows} == {"done", "sent"} and running.is_idle

    await eventually(all_is_done, timeout=60, what="everything to be worked off")
    assert lost() >= 5
    for conversation_id, names in acked.items():
        answered = [name for reply in callback.delivered(conversation_id) for name in reply.answers]
        assert answered == names
    keys: dict[str, set[str]] = defaultdict(set)
    for reply in callback.sent:
        for name in reply.answers:
            keys[name].add(reply.key)
    assert {len(found) for found in keys.values()} == {1}
    stored: dict[int, list[int]] = defaultdict(list)
    for row in await running.rows(messages):
        stored[row["conversation_id"]].append(row["seq"])
    assert len(await running.rows(conversations)) == len(stored) == 8
    assert all(sorted(seqs) == list(range(1, 25)) for seqs in stored.values())
    attempts = await running.rows(delivery_attempts)
    assert len({(row["outbox_id"], row["number"]) for row in attempts}) == len(attempts) >= 96
