"""Buyers' messages as signed HTTP requests, and the ids by which their answers are recognised."""

import time
import uuid
from dataclasses import dataclass

import orjson

from benchmarks.knowledge import Questions
from benchmarks.signing import sign


def make_id(tag: str, conversation: int, number: int) -> str:
    """Return a message id that says its conversation and its number within the shot."""
    return f"{tag}.{conversation}.{number}"


def parse_id(message_id: str) -> tuple[str, int]:
    """Return (conversation, number) of an id made by :func:`make_id`."""
    conversation, _, number = message_id.rpartition(".")
    return conversation, int(number)


@dataclass(frozen=True, slots=True)
class Target:
    """Where messages go: a webhook's path and its key."""

    path: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """How the messages of one shot spread over conversations."""

    tag: str
    """Makes ids of different shots differ."""
    conversations: int = 1_000
    burst: int = 1
    """Messages that follow each other within one conversation."""
    event: str = "message.created"
    """Type of the events posted."""

    def message_id(self, number: int) -> str:
        """Return the id of message ``number``."""
        return make_id(self.tag, number // self.burst % self.conversations, number)


def build(target: Target, shape: Shape, questions: Questions, number: int) -> bytes:
    """Return the whole HTTP request of message ``number``, signed now (valid for 300 s)."""
    now = time.time()
    sent_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    message_id = shape.message_id(number)
    conversation, _ = parse_id(message_id)
    body = orjson.dumps(
        {
            "type": shape.event,
            "timestamp": sent_at,
            "data": {
                "message_id": message_id,
                "conversation_id": f"conversation-{conversation}",
                "buyer": {
                    "id": f"buyer-{conversation}",
                    "nickname": "爱买东西的小王同学",
                    "tier": "gold",
                    # Real platforms send more than we read; this fills the body to about 600 bytes.
                    "avatar": "https://images.shop.example/avatars/2026/11/21/" + "a1b2c3d4" * 10 + ".webp",
                    "locale": "zh-CN",
                },
                "sent_at": sent_at,
                "source": {"page": "item", "app": "android", "version": "10.21.0", "trace": "0f1e2d3c" * 6},
                "content": {"type": "text", "text": questions[number].text},
            },
        }
    )
    webhook_id = f"msg_{uuid.uuid4().hex}".encode()
    stamp = str(int(now)).encode()
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"webhook-id: %b\r\nwebhook-timestamp: %b\r\nwebhook-signature: %b\r\ncontent-length: %d\r\n\r\n%b"
        % (
            target.path.encode(),
            webhook_id,
            stamp,
            sign(target.key, webhook_id, stamp, body),
            len(body),
            body,
        )
    )
