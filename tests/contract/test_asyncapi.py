"""The documents say what the program does: AsyncAPI, OpenAPI, the page of errors."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app.api import agent_commands, frames
from app.api.asyncapi import asyncapi_document, asyncapi_text
from app.api.events_out import EVENT_DATA, HelloAnswer
from app.api.texts import ERROR_TEXTS
from app.core import errors
from app.desk.events import EVENT_TYPES
from app.desk.permissions import Role
from tests.api_world import ApiWorld
from tests.desk_world import DeskWorld
from tests.fakes import FakeClock, FakeIds

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_the_asyncapi_file_is_what_the_models_give() -> None:
    assert (DOCS / "asyncapi.json").read_text(encoding="utf-8") == asyncapi_text(), (
        "run: .venv/bin/python -m app.api.asyncapi > docs/asyncapi.json"
    )


def test_every_frame_that_is_accepted_does_something_and_every_event_is_described() -> None:
    table = agent_commands.AgentCommands(
        conversations=None, escalations=None, sending=None, presence=None  # pyright: ignore[reportArgumentType]
    ).table  # fmt: skip
    assert set(table) | {"hello"} == set(frames.CLIENT_FRAMES)
    assert set(EVENT_DATA) == set(EVENT_TYPES)
    messages = asyncapi_document()["components"]["messages"]
    assert set(messages) == set(table) | {"hello", "ok", "error"} | set(EVENT_TYPES)


@pytest.mark.parametrize("kind", sorted(frames.CLIENT_FRAMES))
def test_the_schemas_of_frames_are_valid_json_schemas(kind: str) -> None:
    document = asyncapi_document()
    schema = {**document["components"]["messages"][kind]["payload"], "components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not validator.is_valid({"id": "1", "type": kind, "data": {"surprise": 1}})
    assert not validator.is_valid({"id": 1, "type": kind, "data": {}})


async def test_real_events_are_as_described(tmp_path: Path, clock: FakeClock, ids: FakeIds) -> None:
    desk = await DeskWorld.open(f"sqlite:///{tmp_path / 'huoji.db'}", clock=clock, ids=ids)
    agent = await desk.person("lin")
    boss = await desk.person("boss", role=Role.SUPERVISOR)
    await desk.come_online(agent)
    conversation = await desk.conversation()
    escalation = await desk.escalate(conversation)
    await desk.router.route()
    await desk.escalations.accept(agent, escalation)
    content = frames.ContentModel(text="您好").to_content()
    await desk.sending.send(agent, conversation, content, client_message_id="1")
    await desk.sending.whisper(boss, conversation, "先道歉")
    await desk.conversations.transfer(agent, conversation, group_id="aftersale", note="退货")
    await desk.conversations.release(boss, conversation)
    await desk.conversations.resolve(boss, conversation, outcome="solved")
    events = await desk.events()
    await desk.close()

    document = asyncapi_document()
    for event in events:
        frame = {"seq": event["seq"], "type": event["type"], "data": event["data"]}
        schema: dict[str, Any] = document["components"]["messages"][event["type"]]["payload"]
        jsonschema.validate(frame, {**schema, "components": document["components"]})
        EVENT_DATA[event["type"]].model_validate(event["data"])
    assert {event["type"] for event in events} == {
        "escalation.offered", "escalation.taken", "escalation.withdrawn", "conversation.assigned",
        "conversation.updated", "conversation.closed", "message.created", "notice",
    }  # fmt: skip
    assert set(HelloAnswer.model_fields) >= {
        "agent",
        "groups",
        "load",
        "max_load",
        "status",
        "conversations",
        "seq",
    }


async def test_the_openapi_file_is_what_the_routes_give(
    tmp_path: Path, clock: FakeClock, ids: FakeIds
) -> None:
    desk = await DeskWorld.open(f"sqlite:///{tmp_path / 'huoji.db'}", clock=clock, ids=ids)
    document = ApiWorld(desk).app.openapi()
    await desk.close()
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    if not (DOCS / "openapi.json").exists():
        await asyncio.to_thread((DOCS / "openapi.json").write_text, text, encoding="utf-8")
    assert (DOCS / "openapi.json").read_text(encoding="utf-8") == text, (
        "the API has changed: remove docs/openapi.json, run this test again and look at the difference"
    )

    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids_given = [operation["operationId"] for operation in operations]
    assert len(ids_given) == len(set(ids_given))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", given) for given in ids_given)
    assert all(operation.get("description") for operation in operations)


def test_the_page_of_errors_lists_every_code() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    for code, known in ERROR_TEXTS.items():
        line = f"| `{code}` | {known.status} | {known.zh} | {known.en} |"
        assert line in page, f"docs/errors.md lacks: {line}"


def test_every_error_of_the_tree_has_texts() -> None:
    outside = {"signature_invalid", "channel_failed", "configuration"}
    codes = {
        error.default_code
        for _, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.HuojiError)
    }
    assert codes - outside <= set(ERROR_TEXTS)
