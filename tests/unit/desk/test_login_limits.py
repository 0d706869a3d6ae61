"""Guessing passwords is slowed down, whichever process is asked."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from app.core.errors import RateLimitedError
from app.core.metrics import Metrics
from app.desk.login_limits import ACCOUNT_TRIES, ADDRESS_TRIES, LoginLimits
from app.storage.database import Database
from app.storage.tables import login_tries
from tests.desk_world import DeskWorld
from tests.fakes import FakeClock, FakeIds


async def tries_before_refusal(limits: LoginLimits, account: str, address: str) -> int:
    tries = 0
    while True:
        try:
            await limits.begin(account, address)
        except RateLimitedError:
            return tries
        tries += 1


async def test_five_tries_are_free_then_the_delay_doubles_up_to_five_minutes(world: DeskWorld) -> None:
    limits = LoginLimits(world.database, now_of=world.now_of)
    assert await tries_before_refusal(limits, "lin", "a") == ACCOUNT_TRIES
    waits: list[float] = []
    for _ in range(12):
        with pytest.raises(RateLimitedError) as refused:
            await limits.begin("lin", "elsewhere")
        assert refused.value.retry_after is not None
        waits.append(refused.value.retry_after)
        world.clock.advance(refused.value.retry_after)
        await limits.begin("lin", f"elsewhere-{len(waits)}")

    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 300.0


async def test_an_address_has_twenty_tries_over_all_accounts(lite: DeskWorld) -> None:
    limits = LoginLimits(lite.database, now_of=lite.now_of)
    for number in range(ADDRESS_TRIES):
        await limits.begin(f"account-{number}", "a")

    with pytest.raises(RateLimitedError):
        await limits.begin("one-more", "a")
    await limits.begin("one-more", "b")


async def test_the_right_password_lets_the_account_start_afresh(lite: DeskWorld) -> None:
    limits = LoginLimits(lite.database, now_of=lite.now_of)
    for _ in range(ACCOUNT_TRIES - 1):
        await limits.begin("lin", "a")

    await lite.database.write(lambda connection: limits.succeeded(connection, "lin", "a"))

    assert await tries_before_refusal(limits, "lin", "a") == ACCOUNT_TRIES


async def test_an_hour_without_a_try_forgets_and_leaves_no_rows(lite: DeskWorld) -> None:
    limits = LoginLimits(lite.database, now_of=lite.now_of)
    await tries_before_refusal(limits, "lin", "a")
    lite.clock.advance(3601)
    assert await tries_before_refusal(limits, "lin", "a") == ACCOUNT_TRIES
    lite.clock.advance(3601)
    await limits.begin("he", "b")

    await lite.database.write(lambda connection: limits.succeeded(connection, "he", "b"))

    query = select(func.count()).select_from(login_tries)
    assert await lite.database.read(lambda connection: connection.execute(query).scalar()) == 2


@pytest.mark.postgres
async def test_two_processes_count_together_also_at_the_same_instant(
    postgres_url: str, clock: FakeClock, ids: FakeIds
) -> None:
    world = await DeskWorld.open(postgres_url, clock=clock, ids=ids)
    other = Database(postgres_url, metrics=Metrics())
    await other.open()
    try:
        both = [LoginLimits(one, now_of=world.now_of) for one in (world.database, other)]
        outcomes = await asyncio.gather(
            *(both[number % 2].begin("lin", f"address-{number}") for number in range(20)),
            return_exceptions=True,
        )
    finally:
        await other.close()
        await world.close()

    assert outcomes.count(None) == ACCOUNT_TRIES
    assert {type(one) for one in outcomes} == {type(None), RateLimitedError}
