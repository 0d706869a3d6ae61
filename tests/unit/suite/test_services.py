"""The servers and the closed network that the other tests lean on."""

from __future__ import annotations

import socket

import asyncpg
import pytest
from redis.asyncio import Redis


async def test_each_test_gets_an_empty_postgresql_database_of_its_own(postgres_url: str):
    connection = await asyncpg.connect(postgres_url)
    try:
        tables = await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'")
        await connection.execute("create table left_behind (id int)")
    finally:
        await connection.close()
    assert tables == 0


async def test_the_next_test_does_not_see_the_tables_of_the_one_before(postgres_url: str):
    await test_each_test_gets_an_empty_postgresql_database_of_its_own(postgres_url)


async def test_redis_starts_empty(redis_url: str):
    client = Redis.from_url(redis_url)
    try:
        assert await client.dbsize() == 0
        await client.set("left", "behind")
    finally:
        await client.aclose()


async def test_redis_is_empty_again_in_the_next_test(redis_url: str):
    await test_redis_starts_empty(redis_url)


def test_a_test_that_uses_the_database_runs_on_both_kinds(database_url: str):
    assert database_url.startswith(("sqlite:///", "postgresql://huoji@127.0.0.1:"))


def test_no_test_reaches_beyond_this_machine():
    with socket.socket() as reaching, pytest.raises(RuntimeError, match="only loopback"):
        reaching.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match=r"look up example\.com"):
        socket.getaddrinfo("example.com", 80)
