"""Escalations: who waits for a human, and taking them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import Connection, and_, or_, select

from app.api.context import Caller, Cursor, Limit, Services, as_id, cut_page, need, person, read_cursor
from app.api.schemas import ConversationOut, DeclineBody, EscalationOut, Page
from app.core.errors import NotFoundError
from app.desk.packets import escalation_wire
from app.desk.permissions import Permission
from app.desk.scope import escalation_is_visible, read_conversation
from app.desk.wire import text_id
from app.storage.tables import escalations

__all__ = ["router"]

router = APIRouter(tags=["escalations"], dependencies=[need(Permission.WORK)])

StateName = Literal["open", "accepted", "withdrawn", "closed"]


@router.get("/escalations", response_model=Page[EscalationOut], operation_id="listEscalations")
async def list_escalations(
    principal: Caller,
    api: Services,
    state: StateName = "open",
    group: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Those in one state, in the queue's order: the most urgent first, then who waits longest."""
    after = read_cursor(cursor, 3)
    table = escalations.c
    query = select(escalations).where(escalation_is_visible(principal.scope()), table.state == state)
    if group is not None:
        query = query.where(table.group_id == group)
    if after is not None:
        rank, waiting, last = after
        query = query.where(
            or_(
                table.priority_rank < rank,
                and_(table.priority_rank == rank, table.waiting_since_ms > waiting),
                and_(table.priority_rank == rank, table.waiting_since_ms == waiting, table.id > last),
            )
        )
    query = query.order_by(table.priority_rank.desc(), table.waiting_since_ms, table.id).limit(limit + 1)

    def look(connection: Connection) -> dict[str, Any]:
        rows = connection.execute(query).mappings().all()
        return cut_page(
            rows,
            limit,
            lambda row: [row["priority_rank"], row["waiting_since_ms"], row["id"]],
            lambda row: _shape(connection, row),
        )

    return await api.database.read(look)


@router.get("/escalations/{escalation_id}", response_model=EscalationOut, operation_id="getEscalation")
async def get_escalation(escalation_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """One escalation with its order, transcript and suggestions."""
    number = as_id(escalation_id)

    def look(connection: Connection) -> dict[str, Any]:
        query = select(escalations).where(
            escalations.c.id == number, escalation_is_visible(principal.scope())
        )
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFoundError("there is no such escalation")
        return _shape(connection, row)

    return await api.database.read(look)


@router.post(
    "/escalations/{escalation_id}/accept", response_model=ConversationOut, operation_id="acceptEscalation"
)
async def accept(escalation_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """Take it; exactly one wins, the others get 409 `taken` with `by`."""
    return await api.escalations.accept(person(principal), as_id(escalation_id))


@router.post("/escalations/{escalation_id}/decline", status_code=204, operation_id="declineEscalation")
async def decline(
    escalation_id: str, principal: Caller, api: Services, body: DeclineBody | None = None
) -> None:
    """Leave it to the next."""
    await api.escalations.decline(
        person(principal), as_id(escalation_id), reason=body.reason if body else None
    )  # fmt: skip


def _shape(connection: Connection, row: Mapping[Any, Any]) -> dict[str, Any]:
    wire = escalation_wire(connection, row, read_conversation(connection, row["conversation_id"]))
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "accepted_by": text_id(row["accepted_by"]),
        **wire,
    }
