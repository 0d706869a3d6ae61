"""The lightest ordinary FastAPI webhook: signature checked, JSON parsed by orjson, 200, nothing kept."""

import orjson
from fastapi import FastAPI, Request, Response

from benchmarks.baselines.serving import parser, serve
from benchmarks.signing import decode_secret, verify


def build(key: bytes) -> FastAPI:
    """Return the application; ``key`` is the account's HMAC key."""
    app = FastAPI(openapi_url=None)

    @app.post("/webhooks/{channel}/{account_id}")
    async def webhook(channel: str, account_id: str, request: Request) -> Response:
        body = await request.body()
        if not verify(key, request.headers.raw, body):
            return Response(status_code=401)
        orjson.loads(body)
        return Response(b"{}", media_type="application/json")

    return app


def main() -> None:
    """Serve until told to stop."""
    arguments = parser(__doc__ or "").parse_args()
    serve(build(decode_secret(arguments.secret)), arguments.port)


if __name__ == "__main__":
    main()
