"""Problem details (RFC 9457) at one place: ours, the framework's, and what nobody expected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.api.texts import ERROR_TEXTS, describe, language_of
from app.core.errors import ConflictError, FieldProblem, HuojiError

__all__ = ["PROBLEM_TYPE", "Problem", "add_problem_handlers", "field_problems", "problem_response"]

log = structlog.get_logger(__name__)

PROBLEM_TYPE = "application/problem+json"

_BY_STATUS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ProblemField(BaseModel):
    """One thing wrong with one field, and what to write instead."""

    field: str
    message: str
    fix: str


class Problem(BaseModel):
    """Why a request was refused."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemField] = []
    request_id: str
    by: str | None = None


def add_problem_handlers(app: FastAPI) -> None:
    """Have every error of an application answered as problem details."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HuojiError)
        if error.status >= 500 and error.status != 503:
            log.error("api.failed", code=error.code, exc_info=error)
        return problem_response(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(request, _from_validation(request, error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _BY_STATUS.get(error.status_code, "internal" if error.status_code >= 500 else "bad_request")
        return problem_response(
            request,
            _PlainError(str(error.detail), code=code, status=error.status_code),
            headers=error.headers,
        )

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("api.failed", code="internal", exc_info=error)
        return problem_response(
            request, HuojiError("something went wrong here; give the request_id to your admin")
        )

    app.add_exception_handler(HuojiError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


class _PlainError(HuojiError):
    """An error whose status was chosen elsewhere."""

    def __init__(self, message: str, *, code: str, status: int, errors: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message, code=code, errors=errors)
        self.chosen_status = status


def problem_response(
    request: Request, error: HuojiError, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer an error in the caller's language."""
    title, detail = describe(error, language_of(request.headers.get("accept-language")))
    known = ERROR_TEXTS.get(error.code)
    status = (
        error.chosen_status if isinstance(error, _PlainError) else known.status if known else error.status
    )
    body: dict[str, Any] = {
        "type": f"/docs/errors#{error.code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": error.code,
        "errors": [{"field": one.field, "message": one.message, "fix": one.fix} for one in error.errors],
        "request_id": getattr(request.state, "request_id", ""),
    }
    if isinstance(error, ConflictError) and error.by is not None:
        body["by"] = error.by
    extra = dict(headers or {})
    if error.retry_after is not None:
        extra["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if status == 401:
        extra.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(body, status, extra, media_type=PROBLEM_TYPE)


def _from_validation(request: Request, error: RequestValidationError) -> HuojiError:
    details: Sequence[Mapping[str, Any]] = error.errors()
    if any(one["type"] == "json_invalid" for one in details):
        return _PlainError("the body is no valid JSON", code="body_invalid", status=400)
    model = _body_model(request)
    problems = field_problems(details, model=model, skip=1)
    places = {one["loc"][0] for one in details if one["loc"]}
    if places and places <= {"query", "header"}:
        return _PlainError("a parameter is not usable", code="out_of_range", status=400, errors=problems)
    unknown = all(one["type"] == "extra_forbidden" for one in details)
    message = "there is an unknown field" if unknown else "the input is not valid"
    return _PlainError(message, code="unknown_field" if unknown else "invalid", status=422, errors=problems)


def field_problems(
    details: Iterable[Mapping[str, Any]],
    *,
    model: type[BaseModel] | None = None,
    skip: int = 0,
    prefix: str = "",
) -> list[FieldProblem]:
    """Turn pydantic's errors into ours: dotted path, what is wrong, what to write instead."""
    problems: list[FieldProblem] = []
    for one in details:
        location = [str(part) for part in one["loc"][skip:]]
        path = prefix + ".".join(location) if location else "body"
        if one["type"] == "extra_forbidden":
            known = _known_fields(model, location[:-1])
            near = get_close_matches(location[-1], known, n=1, cutoff=0.5) if location else []
            fix = (
                f"did you mean {near[0]}?"
                if near
                else f"known: {', '.join(known)}"
                if known
                else "leave it out"
            )
            problems.append(FieldProblem(path, "unknown field", fix))
        else:
            context: Mapping[str, Any] = one.get("ctx") or {}
            fix = ", ".join(f"{name}: {value}" for name, value in context.items() if name != "error")
            problems.append(FieldProblem(path, str(one["msg"]), fix))
    return problems


def _known_fields(model: Any, path: Sequence[str]) -> list[str]:
    current = model
    for part in path:
        fields = getattr(current, "model_fields", None)
        if not fields or part not in fields:
            return []
        current = fields[part].annotation
    return sorted(getattr(current, "model_fields", {}))


def _body_model(request: Request) -> type[BaseModel] | None:
    body = getattr(getattr(request.scope.get("route"), "body_field", None), "field_info", None)
    annotation = getattr(body, "annotation", None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
