"""The HTTP API and agents' sockets as one application."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from app import __version__
from app.api import buyers, conversations, escalations, knowledge, operations, people, sessions, shops
from app.api.agent_socket import AgentSockets
from app.api.context import ApiServices
from app.api.middleware import ApiEnvelope
from app.api.problems import PROBLEM_TYPE, Problem, add_problem_handlers

__all__ = ["API_PREFIX", "SOCKET_PATH", "create_api"]

API_PREFIX = "/api/v1"
SOCKET_PATH = "/ws/agent"

_REFUSALS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Refused: problem details (RFC 9457).",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def create_api(services: ApiServices, sockets: AgentSockets | None = None) -> FastAPI:
    """Build the application that serves ``/api/v1``, ``/openapi.json`` and, with ``sockets``, ``/ws/agent``."""
    app = FastAPI(
        title="Huoji",
        version=__version__,
        description="Customer service for e-commerce shops: conversations, people, knowledge, operations.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_REFUSALS,
        middleware=[
            Middleware(ApiEnvelope, make_id=lambda: str(services.ids.next()), is_secure=services.is_secure)
        ],
    )
    app.state.services = services
    add_problem_handlers(app)
    for module in (sessions, people, shops, conversations, buyers, escalations, knowledge, operations):
        app.include_router(module.router, prefix=API_PREFIX)
    if sockets is not None:
        app.router.routes.append(WebSocketRoute(SOCKET_PATH, sockets.endpoint, name="agent_socket"))
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs", {}))
            schemas["Problem"] = problem
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            document["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "huoji_session"},
            }
            document["security"] = [{"bearer": []}, {"cookie": []}]
            document["paths"][f"{API_PREFIX}/sessions"]["post"]["security"] = []
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi
