"""The machine's clock jumps by an hour, forwards and back: nobody loses their partitions, their order or their replies.

Source: the faults to survive, F41.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.installation import QUESTIONS, install
from tests.marketplace import Marketplace, message_body, signed_headers
from tests.running import Callback, Running, SwiftClock

HOUR_MS = 3_600_000


class JumpingClock(SwiftClock):
    """A clock whose wall time somebody sets; what is measured with it goes on as before."""

    ahead_ms = 0

    def now_ms(self) -> int:
        """The wall clock, as it was set."""
        return super().now_ms() + self.ahead_ms


async def post(running: Running, clock: JumpingClock, name: str, text: str) -> int:
    """Post a message as a marketplace whose clock is right; return the status."""
    body = message_body(text, message_id=name, conversation_id="c-1")
    headers = signed_headers(body, f"wh-{name}", at=(clock.now_ms() - clock.ahead_ms) / 1000)
    answer = await running._client.post("/webhooks/generic/shop-1", content=body, headers=headers)
    return answer.status_code


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
async def test_a_clock_that_jumps_refuses_what_looks_stale_and_keeps_everything_else(
    database_url: str, tmp_path: Path, ahead_ms: int
) -> None:
    await install(database_url, tmp_path, Marketplace())
    callback, clock = Callback(), JumpingClock()
    texts = list(QUESTIONS)

    async with Running(database_url, callback, clock=clock) as running:
        leases: Mapping[int, int] = dict(running.application.leases.epochs)
        assert await post(running, clock, "m-0", texts[0]) == 200
        clock.ahead_ms = ahead_ms
        # The window in which a signature is good goes by this machine's clock: it must be set right, and doctor says so.
        assert await post(running, clock, "refused", texts[1]) == 401
        # A marketplace that is as wrong as we are is served all the same.
        assert await running.say(texts[1], message_id="m-1", conversation_id="c-1") == 200
        await running.settle()
        clock.ahead_ms = 0
        assert await post(running, clock, "m-2", texts[2]) == 200
        await running.settle()
        assert dict(running.application.leases.epochs) == leases
    assert [reply.answers for reply in callback.delivered("c-1")] == [("m-0",), ("m-1",), ("m-2",)]
    assert len({reply.key for reply in callback.sent}) == 3
