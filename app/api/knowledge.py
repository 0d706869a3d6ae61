"""The knowledge base: the draft's entries and the published versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from app.api.context import Caller, Limit, Services, expected_version, need
from app.api.once import IdempotencyKey, once
from app.api.schemas import EntryOut, Page, PublishBody, RollbackBody, VersionOut
from app.core.clock import rfc3339
from app.core.errors import FieldProblem, InvalidError, StaleError
from app.desk.permissions import Permission
from app.knowledge.drafts import DraftEntry
from app.knowledge.versions import VersionInfo

__all__ = ["router"]

router = APIRouter(tags=["knowledge"])

READ = [need(Permission.READ_ALL)]
EDIT = [need(Permission.EDIT_KNOWLEDGE)]
PUBLISH = [need(Permission.PUBLISH_KNOWLEDGE)]


@router.get(
    "/knowledge/entries", response_model=Page[EntryOut], operation_id="listEntries", dependencies=READ
)
async def list_entries(
    api: Services,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the part before.")] = None,
    category: Annotated[str | None, Query(max_length=100)] = None,
) -> dict[str, Any]:
    """The draft's entries by id; the cursor is the last id of the part before."""
    entries = sorted(await api.knowledge.list_entries(), key=lambda entry: str(entry.document["id"]))
    if category is not None:
        entries = [entry for entry in entries if entry.document.get("category") == category]
    if cursor is not None:
        entries = [entry for entry in entries if str(entry.document["id"]) > cursor]
    items = [_entry(entry) for entry in entries[:limit]]
    return {"items": items, "next": items[-1]["id"] if len(entries) > limit else None}


@router.get(
    "/knowledge/entries/{entry_id}", response_model=EntryOut, operation_id="getEntry", dependencies=READ
)
async def get_entry(entry_id: str, response: Response, api: Services) -> dict[str, Any]:
    """One draft entry; its ETag goes into If-Match of a change."""
    entry = await api.knowledge.get_entry(entry_id)
    response.headers["ETag"] = f'"{entry.version}"'
    return _entry(entry)


@router.put(
    "/knowledge/entries/{entry_id}", response_model=EntryOut, operation_id="putEntry", dependencies=EDIT
)
async def put_entry(
    entry_id: str,
    document: Annotated[
        dict[str, Any], Body(description="The entry as in a file; `category` may stand in it.")
    ],
    request: Request,
    response: Response,
    api: Services,
) -> dict[str, Any]:
    """Change a draft entry (If-Match with its ETag), or make one (without If-Match)."""
    named = document.get("id", entry_id)
    if named != entry_id:
        raise InvalidError(
            "the id in the body is not the one in the address",
            errors=[FieldProblem("id", f"is {named!r}", f"write {entry_id!r} or leave it out")],
        )
    saved = await api.knowledge.put_entry(
        {**document, "id": entry_id}, expected_version=expected_version(request)
    )  # fmt: skip
    response.headers["ETag"] = f'"{saved.entry.version}"'
    return _entry(saved.entry) | {"warnings": [str(warning) for warning in saved.warnings]}


@router.delete(
    "/knowledge/entries/{entry_id}", status_code=204, operation_id="deleteEntry", dependencies=EDIT
)
async def delete_entry(entry_id: str, request: Request, api: Services) -> None:
    """Remove a draft entry; If-Match names the version that was read."""
    expected = expected_version(request)
    if expected is None:
        await api.knowledge.get_entry(entry_id)
        raise StaleError("say with If-Match which version you read", code="precondition_required")
    await api.knowledge.delete_entry(entry_id, expected_version=expected)


@router.get(
    "/knowledge/versions", response_model=Page[VersionOut], operation_id="listVersions", dependencies=READ
)
async def list_versions(api: Services) -> dict[str, Any]:
    """Every published version, the newest first."""
    return {"items": [_version(one) for one in await api.knowledge.list_versions()], "next": None}


@router.post(
    "/knowledge/publish", status_code=201, response_model=VersionOut, operation_id="publishKnowledge",
    dependencies=PUBLISH,
)  # fmt: skip
async def publish(
    principal: Caller, api: Services, body: PublishBody | None = None, key: IdempotencyKey = None
) -> Mapping[str, Any]:
    """Check the draft and put it in service as the next version."""

    async def run() -> dict[str, Any]:
        version = await api.knowledge.publish(author=principal.name, note=body.note if body else None)
        return await _find_version(api, version)

    return await once(api, principal, "publish", key, run)


@router.post(
    "/knowledge/rollback", status_code=201, response_model=VersionOut, operation_id="rollbackKnowledge",
    dependencies=PUBLISH,
)  # fmt: skip
async def rollback(
    principal: Caller, api: Services, body: RollbackBody | None = None, key: IdempotencyKey = None
) -> Mapping[str, Any]:
    """Put an earlier version in service."""

    async def run() -> dict[str, Any]:
        version = await api.knowledge.rollback(body.version if body else None, author=principal.name)
        return await _find_version(api, version)

    return await once(api, principal, "rollback", key, run)


async def _find_version(api: Services, version: int) -> dict[str, Any]:
    for one in await api.knowledge.list_versions():
        if one.version == version:
            return _version(one)
    # Version 0: nothing is in service any more.
    return {
        "version": version,
        "entry_count": 0,
        "note": None,
        "author": "",
        "created_at": rfc3339(api.clock.now_ms()),
        "in_service": True,
    }


def _entry(entry: DraftEntry) -> dict[str, Any]:
    return {
        "id": entry.document["id"],
        "version": entry.version,
        "updated_at": rfc3339(entry.updated_at_ms),
        "document": dict(entry.document),
    }


def _version(info: VersionInfo) -> dict[str, Any]:
    return {
        "version": info.version,
        "entry_count": info.entry_count,
        "note": info.note,
        "author": info.author,
        "created_at": rfc3339(info.created_at_ms),
        "in_service": info.in_service,
    }
