"""The AsyncAPI document of agents' sockets, generated from the frame models.

``python -m app.api.asyncapi`` prints it; ``docs/asyncapi.json`` is a copy that a test keeps in step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app import __version__
from app.api.agent_connection import FRAMES_AT_ONCE, FRAMES_PER_SECOND, MAX_FRAME_BYTES
from app.api.events_out import EVENT_DATA, HelloAnswer
from app.api.frame_queue import MAX_QUEUED_BYTES
from app.api.frames import CLIENT_FRAMES, ErrorData
from app.api.socket_close import CloseCode

__all__ = ["asyncapi_document", "asyncapi_text"]

_REF = "#/components/schemas/{model}"


def asyncapi_document() -> dict[str, Any]:
    """Return the document (AsyncAPI 3.0)."""
    models: dict[str, type[BaseModel]] = {
        model.__name__: model
        for model in (*CLIENT_FRAMES.values(), *EVENT_DATA.values(), ErrorData, HelloAnswer)
    }
    names, definitions = models_json_schema(
        [(model, "validation") for model in models.values()], ref_template=_REF
    )
    refs: Mapping[type[BaseModel], Any] = {model: names[(model, "validation")] for model in models.values()}
    sent = {kind: _client_message(kind, model, refs[model]) for kind, model in CLIENT_FRAMES.items()}
    events = {kind: _event_message(kind, model, refs[model]) for kind, model in EVENT_DATA.items()}
    answers = {
        "ok": _answer_message("ok", {"type": "object"}, "Done; for hello the data is HelloAnswer."),
        "error": _answer_message("error", refs[ErrorData], "Refused; nothing has changed."),
    }
    messages = {**sent, **events, **answers}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Huoji agents' socket",
            "version": __version__,
            "description": (
                "Sign in by the handshake: `Authorization: Bearer`, or the session cookie with an allowed Origin "
                "(foreign: HTTP 403). "
                f"A frame has at most {MAX_FRAME_BYTES} bytes; {FRAMES_PER_SECOND:g} frames a second, "
                f"{FRAMES_AT_ONCE} at once. A reader for whom more than {MAX_QUEUED_BYTES} bytes wait is cut. "
                "Close codes: "
                + _close_codes()
                + " The reasons of 1012 and 1013 end with `; retry_in=` and the seconds "
                "after which to connect again, with the same token or cookie."
            ),
        },
        "channels": {
            "agent": {
                "address": "/ws/agent",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "receiveFrame": _operation("receive", sent, "What a client sends; each frame is answered."),
            "sendAnswer": _operation("send", answers, "The answer to a client's frame."),
            "sendEvent": _operation("send", events, "What happened; `seq` rises, with gaps."),
        },
        "components": {"messages": messages, "schemas": definitions.get("$defs", {})},
    }


def asyncapi_text() -> str:
    """Return the document as the text of its file."""
    return json.dumps(asyncapi_document(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _client_message(kind: str, model: type[BaseModel], data: Any) -> dict[str, Any]:
    return {
        "name": kind,
        "summary": _summary(model),
        "payload": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "type"],
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 64},
                "type": {"const": kind},
                "data": data,
            },
        },
    }


def _event_message(kind: str, model: type[BaseModel], data: Any) -> dict[str, Any]:
    return {
        "name": kind,
        "summary": _summary(model),
        "payload": {
            "type": "object",
            "required": ["seq", "type", "data"],
            "properties": {"seq": {"type": "integer"}, "type": {"const": kind}, "data": data},
        },
    }


def _answer_message(kind: str, data: Any, summary: str) -> dict[str, Any]:
    return {
        "name": kind,
        "summary": summary,
        "payload": {
            "type": "object",
            "required": ["re", "type", "data"],
            "properties": {"re": {"type": ["string", "null"]}, "type": {"const": kind}, "data": data},
        },
    }


def _operation(action: str, messages: Mapping[str, Any], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/agent"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/agent/messages/{name}"} for name in messages],
    }


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _close_codes() -> str:
    meanings = {
        CloseCode.TOO_MANY: "too many frames",
        CloseCode.TOO_BIG: "a frame too big",
        CloseCode.RESTART: "the server restarts",
        CloseCode.TRY_LATER: "too many handshakes at once",
        CloseCode.SIGNED_OUT: "not, or no longer, signed in",
        CloseCode.TOO_SLOW: "too slow a reader",
        CloseCode.TAKEN_OVER: "taken over by hello with takeover elsewhere",
    }
    return ", ".join(f"{code} {meaning}" for code, meaning in sorted(meanings.items())) + "."


if __name__ == "__main__":
    sys.stdout.write(asyncapi_text())
