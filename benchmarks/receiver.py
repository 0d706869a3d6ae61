"""The marketplace's end: takes replies, says ``200 {}``, and remembers what came and when.

Any POST is a reply, except those under ``/control``:

- ``POST /control/reset`` forgets everything;
- ``GET /control/stats`` counts deliveries, answered messages, doubles and disorder;
- ``GET /control/arrivals`` gives the time of the first answer to each message, and some texts;
- ``GET /control/follow`` stays open and sends the number of answered messages, a line at each change.

Messages are known by ids made by ``messages.py``: conversation and rising number stand in them.
Times are CLOCK_MONOTONIC in seconds, which all processes of one Linux machine share.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop

from benchmarks.messages import parse_id
from benchmarks.wire import Head, HttpStream

KEPT_TEXTS = 2_000
"""How many reply texts are kept for looking at."""
FOLLOW_DELAY = 0.001
"""Seconds over which changes are gathered for followers."""
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Ledger:
    """Everything received since the last reset."""

    deliveries: int = 0
    keys: set[bytes] = field(default_factory=set[bytes])
    repeated_keys: int = 0
    doubled: int = 0
    disordered: int = 0
    unsolicited: int = 0
    arrivals: dict[str, float] = field(default_factory=dict[str, float])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    latest: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, key: bytes, body: bytes, now: float) -> None:
        """Enter one delivery; a delivery whose key is known is a retry and changes nothing else."""
        self.deliveries += 1
        if key in self.keys:
            self.repeated_keys += 1
            return
        self.keys.add(key)
        data: dict[str, Any] = orjson.loads(body)["data"]
        answers: list[str] = data.get("answers") or ([data["in_reply_to"]] if data.get("in_reply_to") else [])
        if not answers:
            self.unsolicited += 1
        for message_id in answers:
            if message_id in self.arrivals:
                self.doubled += 1
                continue
            self.arrivals[message_id] = now
            conversation, number = parse_id(message_id)
            if self.latest.get(conversation, -1) > number:
                self.disordered += 1
            else:
                self.latest[conversation] = number
            if len(self.texts) < KEPT_TEXTS:
                self.texts[message_id] = data["content"].get("text", "")

    def stats(self) -> dict[str, int | float]:
        """Return the counters."""
        return {
            "deliveries": self.deliveries,
            "answered": len(self.arrivals),
            "unique_keys": len(self.keys),
            "repeated_keys": self.repeated_keys,
            "doubled": self.doubled,
            "disordered": self.disordered,
            "unsolicited": self.unsolicited,
            "last_arrival": max(self.arrivals.values(), default=0.0),
        }


class Receiver:
    """The ledger and those who follow it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._followers: set[asyncio.Transport] = set()
        self._announced = False

    def reset(self) -> None:
        """Forget everything."""
        self.ledger = Ledger()

    def follow(self, transport: asyncio.Transport) -> None:
        """Send the count to ``transport`` at each change from now on."""
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        self._followers.add(transport)

    def leave(self, transport: asyncio.Transport | None) -> None:
        """Stop sending to ``transport``."""
        if transport is not None:
            self._followers.discard(transport)

    def changed(self) -> None:
        """Announce soon that the count is another."""
        if self._followers and not self._announced:
            self._announced = True
            asyncio.get_running_loop().call_later(FOLLOW_DELAY, self._announce)

    def _announce(self) -> None:
        self._announced = False
        line = b"%d\n" % len(self.ledger.arrivals)
        for transport in self._followers:
            transport.write(line)


class Peer(HttpStream):
    """One incoming connection."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__()
        self._receiver = receiver

    def message(self, head: Head, body: bytes) -> None:
        """Take a reply or a control request."""
        assert self.transport is not None
        target = head.target
        if not target.startswith(b"/control/"):
            self._receiver.ledger.take(head.headers.get(b"webhook-id", b""), body, time.monotonic())
            self.transport.write(_OK)
            self._receiver.changed()
            return
        ledger = self._receiver.ledger
        if target == b"/control/reset":
            self._receiver.reset()
            self._json({})
        elif target == b"/control/stats":
            self._json(ledger.stats())
        elif target == b"/control/arrivals":
            self._json({"arrivals": ledger.arrivals, "texts": ledger.texts, "stats": ledger.stats()})
        elif target == b"/control/follow":
            self._receiver.follow(self.transport)
        else:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a follower that left."""
        self._receiver.leave(self.transport)

    def _json(self, value: dict[str, Any]) -> None:
        assert self.transport is not None
        body = orjson.dumps(value)
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def _serve(port: int) -> None:
    receiver = Receiver()
    server = await asyncio.get_running_loop().create_server(lambda: Peer(receiver), "127.0.0.1", port)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


def main() -> None:
    """Receive until told to stop."""
    made = argparse.ArgumentParser(description="Take replies as a marketplace would.")
    made.add_argument("--port", type=int, default=0, help="0: any free port, printed as JSON")
    uvloop.run(_serve(made.parse_args().port))


if __name__ == "__main__":
    main()
