"""One id in the logs of two processes from a webhook to the delivery of its reply, and nothing of what was said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from app.reports.journey import journey_of
from tests.huoji_process import HuojiProcess
from tests.installation import QUESTIONS, environment, install, on_installation
from tests.marketplace import Marketplace, message_body, signed_headers
from tests.waiting import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

CONVERSATIONS = 8
PLANTED = ("13912345678", "王小明", "浙江省杭州市西湖区文三路 90 号")
STAGES = {"webhook.stored", "turn.decided", "turn.committed", "delivery.attempt"}
THREAT = "我要投诉你们,打12315"


def lines_of(process: HuojiProcess) -> list[dict[str, Any]]:
    """The lines of a program's log."""
    return [json.loads(line) for line in process.log.splitlines() if line.startswith("{")]


def told(process: HuojiProcess, trace_id: str) -> set[str]:
    """What a program's log says of a message, by one search."""
    return {line["event"] for line in lines_of(process) if trace_id in json.dumps(line)}


async def post(market: Marketplace, url: str, message_id: str, text: str, **headers: str) -> None:
    body = message_body(
        text,
        message_id=message_id,
        conversation_id=f"c-{message_id}",
        buyer={"id": "b", "nickname": PLANTED[1]},
    )
    signed = {**signed_headers(body, f"wh-{message_id}"), **headers}
    assert await market.post(url, body, headers=signed) == 200


async def test_one_search_shows_a_messages_way_over_two_processes(postgres_url: str, tmp_path: Path) -> None:
    settings = environment(postgres_url, HUOJI_LOG_LEVEL="debug")
    question = f"{next(iter(QUESTIONS))}，我是{PLANTED[1]}，电话{PLANTED[0]}，地址{PLANTED[2]}"
    async with Marketplace() as market:
        await install(postgres_url, tmp_path, market)
        with (
            HuojiProcess(tmp_path / "a", environment=settings) as a,
            HuojiProcess(tmp_path / "b", environment=settings) as b,
        ):
            traces = {f"m-{number}": f"{number + 1:032x}" for number in range(CONVERSATIONS)}
            for message_id, trace in traces.items():
                await post(market, a.url, message_id, question, traceparent=f"00-{trace}-00000000000000ff-01")
            await post(market, b.url, "m-threat", THREAT)
            await post(market, b.url, "m-plain", next(iter(QUESTIONS)), traceparent="not one")
            await market.wait_for(CONVERSATIONS + 2, timeout=60)
            inbox = {message_id: await trace_of(postgres_url, message_id) for message_id in traces}
            assert inbox == traces
            threat, plain = [await trace_of(postgres_url, one) for one in ("m-threat", "m-plain")]
            assert threat.isdecimal()
            assert plain.isdecimal()

            for trace in (*traces.values(), plain):
                await eventually(
                    lambda trace=trace: told(a, trace) | told(b, trace) >= STAGES, what=f"the way of {trace}"
                )
            await eventually(
                lambda: told(a, threat) | told(b, threat) >= {*STAGES, "escalation.opened"},
                what="the way of the threat",
            )
            crossed = [trace for trace in traces.values() if "delivery.attempt" in told(b, trace)]
            assert crossed, "every message stayed where it came in"
            assert all("webhook.stored" in told(a, trace) for trace in crossed)
            for process in (a, b):
                assert await asyncio.to_thread(process.terminate) == 0
        said = a.log + b.log
    secrets = [market.secret, settings["HUOJI_SECRET_KEY"], *PLANTED, *QUESTIONS, THREAT]
    assert [one for one in secrets if one in said] == []


async def trace_of(url: str, message_id: str) -> str:
    """The trace id that a message's journey shows."""

    def look(connection: Connection) -> Mapping[str, Any]:
        journey = journey_of(connection, account_id="shop-1", external_message_id=message_id)
        assert journey is not None
        return journey.stages[0].detail

    detail = await on_installation(url, lambda installation: installation.database.read(look))
    return str(detail["trace_id"])
