"""Plays a marketplace: posts a buyer's message to Huoji, signed, and prints the reply that comes back.

    python3 docs/examples/marketplace.py 可以开发票吗

Nothing but Python's standard library. ``docs/channels/generic.md`` describes the format.
"""

# ruff: noqa: S310, T201, TID251 - an example of its own, outside the program

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any


def main() -> None:
    """Post one message, wait for one reply."""
    parser = argparse.ArgumentParser()
    parser.add_argument("text", help="what the buyer says")
    parser.add_argument("--url", default="http://127.0.0.1:8000/webhooks/generic/my-shop-1")
    parser.add_argument("--secret", type=Path, default=Path("secret.txt"), help="file with whsec_…")
    parser.add_argument("--listen", type=int, default=9000, help="port of the account's callback_url")
    options = parser.parse_args()
    key = base64.b64decode(options.secret.read_text("ascii").strip().removeprefix("whsec_"))
    with HTTPServer(("127.0.0.1", options.listen), Receiver) as receiver:
        receiver.timeout = 20
        request = urllib.request.Request(options.url, *signed(key, message(options.text)))
        with urllib.request.urlopen(request) as answer:
            print("webhook:", answer.status, answer.read().decode())
        receiver.handle_request()


def message(text: str) -> dict[str, Any]:
    """A buyer's message, in a conversation of its own."""
    name = uuid.uuid4().hex[:8]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "type": "message.created",
        "timestamp": now,
        "data": {
            "message_id": f"m-{name}",
            "conversation_id": f"c-{name}",
            "buyer": {"id": f"b-{name}", "nickname": "小王"},
            "sent_at": now,
            "content": {"type": "text", "text": text},
        },
    }


def signed(key: bytes, document: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body, and its headers after Standard Webhooks."""
    body = json.dumps(document).encode()
    webhook_id, timestamp = f"evt-{uuid.uuid4().hex}", str(int(time.time()))
    signature = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return body, {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


class Receiver(BaseHTTPRequestHandler):
    """Where replies arrive. A real one checks the signature, and remembers ``webhook-id`` against repetitions."""

    def do_POST(self) -> None:
        reply = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
        print(f"{reply['data']['author']} says:", reply["data"]["content"]["text"], flush=True)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name that http.server uses
        """Keep the terminal for the conversation."""


if __name__ == "__main__":
    main()
