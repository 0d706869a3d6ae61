"""What an operator looks at: rejected events, failed deliveries, the audit log, notices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from sqlalchemy import ColumnElement, Connection, Table, select, true, update

from app.api.context import ApiServices, Caller, Cursor, Limit, Services, as_id, cut_page, need, read_cursor
from app.api.schemas import AuditOut, DeliveryOut, NoticeOut, Page, RejectedOut
from app.core.clock import rfc3339
from app.core.errors import NotFoundError
from app.delivery.outbox import replay
from app.desk.audit import record
from app.desk.auth import Principal
from app.desk.permissions import Permission
from app.storage.tables import accounts, audit, inbox, notices, outbox

__all__ = ["router"]

router = APIRouter(tags=["operations"], dependencies=[need(Permission.READ_ALL)])

BODY_SHOWN = 2000


@router.get("/rejected-events", response_model=Page[RejectedOut], operation_id="listRejectedEvents")
async def list_rejected(
    principal: Caller,
    api: Services,
    state: Literal["rejected", "ignored", "parked"] | None = None,
    account: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Webhooks that were taken but led to nothing, with the reason; the latest first."""
    wanted = inbox.c.state == state if state else inbox.c.state.in_(("rejected", "ignored", "parked"))
    if account is not None:
        wanted &= inbox.c.account_id == account
    wanted &= _in_shops(inbox, principal)
    return await _latest(api, inbox, wanted, limit, cursor, _rejected)


@router.get("/deliveries", response_model=Page[DeliveryOut], operation_id="listFailedDeliveries")
async def list_deliveries(
    principal: Caller, api: Services, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """Messages that could not be delivered, the latest first."""
    wanted = (outbox.c.state == "failed") & _in_shops(outbox, principal)
    return await _latest(api, outbox, wanted, limit, cursor, _delivery)


@router.post(
    "/deliveries/{delivery_id}/replay", status_code=202, operation_id="replayDelivery",
    dependencies=[need(Permission.REPLAY_DELIVERIES)],
)  # fmt: skip
async def replay_delivery(delivery_id: str, principal: Caller, api: Services) -> dict[str, str]:
    """Send a failed message again, under its old key."""
    number = as_id(delivery_id)

    def put_back(connection: Connection) -> None:
        query = select(outbox.c.id).where(outbox.c.id == number, _in_shops(outbox, principal))
        now = api.clock.now_ms()
        if connection.execute(query).first() is None or not replay(connection, number, now_ms=now):
            raise NotFoundError("there is no such failed delivery")
        record(connection, ids=api.ids, actor=principal.name, action="delivery.replay", subject=delivery_id,
               at_ms=now, detail={})  # fmt: skip

    await api.database.write(put_back)
    await api.on_replayed(number)
    return {"id": delivery_id, "state": "open"}


@router.get("/audit", response_model=Page[AuditOut], operation_id="listAudit")
async def list_audit(api: Services, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """Who did what, the latest first."""
    return await _latest(api, audit, true(), limit, cursor, _audit)


@router.get("/notices", response_model=Page[NoticeOut], operation_id="listNotices")
async def list_notices(api: Services, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """What an admin should know, the latest first."""
    return await _latest(api, notices, true(), limit, cursor, _notice)


@router.post("/notices/{notice_id}/seen", status_code=204, operation_id="seeNotice")
async def see_notice(notice_id: str, api: Services) -> None:
    """Note that somebody has seen a notice."""
    number = as_id(notice_id)

    def see(connection: Connection) -> None:
        changed = connection.execute(
            update(notices).where(notices.c.id == number).values(seen_at_ms=api.clock.now_ms())
        ).rowcount
        if not changed:
            raise NotFoundError("there is no such notice")

    await api.database.write(see)


async def _latest(
    api: ApiServices, table: Table, wanted: ColumnElement[bool], limit: int, cursor: str | None, shape: Any
) -> dict[str, Any]:
    before = read_cursor(cursor, 1)
    query = select(table).where(wanted)
    if before is not None:
        query = query.where(table.c.id < before[0])
    query = query.order_by(table.c.id.desc()).limit(limit + 1)
    rows = await api.database.read(lambda connection: connection.execute(query).mappings().all())
    return cut_page(rows, limit, lambda row: [row["id"]], shape)


def _in_shops(table: Table, principal: Principal) -> ColumnElement[bool]:
    shops = principal.scope().shops
    if not shops:
        return true()
    return table.c.account_id.in_(select(accounts.c.id).where(accounts.c.shop_id.in_(shops)))


def _rejected(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "account_id": row["account_id"],
        "channel": row["channel"],
        "state": row["state"],
        "reason": row["reason"],
        "tries": row["tries"],
        "received_at": rfc3339(row["received_at_ms"]),
        "body": bytes(row["body"])[:BODY_SHOWN].decode("utf-8", "replace"),
    }


def _delivery(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "conversation_id": str(row["conversation_id"]),
        "account_id": row["account_id"],
        "message_id": str(row["message_id"]),
        "author": row["author"],
        "attempts": row["attempts"],
        "error": row["error"],
        "created_at": rfc3339(row["created_at_ms"]),
        "content": orjson.loads(row["payload"])["content"],
    }


def _audit(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "detail": orjson.loads(row["detail"]),
        "at": rfc3339(row["at_ms"]),
    }


def _notice(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "subject": row["subject"],
        "text": row["text"],
        "created_at": rfc3339(row["created_at_ms"]),
        "seen_at": rfc3339(row["seen_at_ms"]),
    }
