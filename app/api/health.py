"""Whether the process lives, whether it can take traffic, and its metrics."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.core.metrics import Metrics

__all__ = ["HEALTH_PATHS", "health_routes"]

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns what stands in the way of taking traffic, by part; empty when nothing does."""


Degraded = Callable[[], Mapping[str, str]]
"""Returns what doesn't work as it should without keeping traffic away, by part; empty when everything does."""


def health_routes(
    *,
    readiness: Readiness,
    metrics: Metrics,
    metrics_token: str | None,
    degraded: Degraded = dict,
) -> list[Route]:
    """Return ``/healthz``, ``/readyz`` and ``/metrics``; the last wants ``Authorization: Bearer`` always."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        problems = await readiness()
        if problems:
            return JSONResponse(
                {"status": "not ready", "problems": dict(problems)}, 503, {"Retry-After": "1"}
            )
        impaired = degraded()
        if impaired:
            return JSONResponse({"status": "ready", "degraded": dict(impaired)})
        return JSONResponse({"status": "ready"})

    async def render_metrics(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if metrics_token is None or not hmac.compare_digest(given.encode(), metrics_token.encode()):
            problem = {
                "type": "about:blank",
                "title": "token_invalid",
                "status": 401,
                "code": "token_invalid",
                "detail": "metrics want Authorization: Bearer with the value of HUOJI_METRICS_TOKEN",
            }
            return JSONResponse(problem, 401, media_type="application/problem+json")
        return PlainTextResponse(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", render_metrics)]
