"""The fastest honest webhook in Python: a bare ASGI function that checks the signature and says 200.

It parses nothing, stores nothing and answers nothing: the ceiling for a durable acknowledgement.
"""

from starlette.types import Receive, Scope, Send

from benchmarks.baselines.serving import parser, serve
from benchmarks.signing import decode_secret, verify

_OK = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
_OK_BODY = {"type": "http.response.body", "body": b"{}"}
_REFUSED = {"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]}
_REFUSED_BODY = {"type": "http.response.body", "body": b""}


class RawWebhook:
    """Verify the HMAC of each POST; 200 when it is right, 401 otherwise."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError("only http is served here")
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if verify(self._key, scope["headers"], body):
            await send(_OK)
            await send(_OK_BODY)
        else:
            await send(_REFUSED)
            await send(_REFUSED_BODY)


def main() -> None:
    """Serve until told to stop."""
    arguments = parser(__doc__ or "").parse_args()
    serve(RawWebhook(decode_secret(arguments.secret)), arguments.port)


if __name__ == "__main__":
    main()
