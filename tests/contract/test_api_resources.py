"""The HTTP API's resources, on both databases: what they hold, who may see them, what they refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, update

from app.core.clock import from_rfc3339
from app.desk.permissions import Role
from app.storage.tables import decisions, inbox, messages, notices, order_cache, outbox
from tests.api_world import PASSWORD, ApiWorld
from tests.desk_world import DeskWorld
from tests.fakes import FakeClock, FakeIds

ENTRY = {
    "question": "几天发货",
    "variants": ["什么时候发货"],
    "answer": "亲，48 小时内发出哦。",
    "category": "delivery",
}


@pytest.fixture
async def api(database_url: str, clock: FakeClock, ids: FakeIds) -> AsyncIterator[ApiWorld]:
    """The API on SQLite and on PostgreSQL."""
    desk = await DeskWorld.open(database_url, clock=clock, ids=ids)
    yield ApiWorld(desk)
    await desk.close()


async def put(api: ApiWorld, table: Any, **row: Any) -> None:
    await api.desk.database.write(lambda connection: connection.execute(insert(table), row).rowcount)


async def test_conversations_are_listed_filtered_and_paged(api: ApiWorld) -> None:
    lin, client = await api.as_person("lin")
    made = [await api.desk.conversation(f"c-{number}") for number in range(5)]
    held = await api.desk.conversation("held", state="human", agent=lin)
    queued = await api.desk.conversation("queued")
    await api.desk.escalate(queued)
    api.desk.clock.advance(60)
    await api.desk.buyer_says(made[2], "在吗")

    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/v1/conversations", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen[0] == str(made[2])
    assert sorted(seen) == sorted(str(one) for one in [*made, held, queued])

    async def ids(**query: str) -> list[str]:
        answer = await client.get("/api/v1/conversations", params=query)
        return [item["id"] for item in answer.json()["items"]]

    assert await ids(agent="me") == [str(held)]
    assert await ids(agent=str(lin.id), state="human") == [str(held)]
    assert await ids(state="queued") == [str(queued)]
    assert await ids(group="presale") == [str(queued)]
    assert await ids(shop="s2") == []
    one = (await client.get(f"/api/v1/conversations/{held}")).json()
    assert one["buyer"] == {
        "id": one["buyer"]["id"],
        "external_id": "b-held",
        "nickname": "小王",
        "tier": None,
        "tags": ["老客"],
    }
    assert one["last_message"]["content"]["text"] == "我要投诉你们,打12315"
    assert from_rfc3339(one["updated_at"]) > 0


async def test_messages_are_listed_latest_first_and_one_shows_its_decision(api: ApiWorld) -> None:
    _, client = await api.as_person("lin")
    conversation = await api.desk.conversation()
    for number in range(3):
        await api.desk.buyer_says(conversation, str(number))
    message = await api.desk.buyer_says(conversation, "在吗")
    await put(
        api, decisions, id=77, conversation_id=conversation, kind="answer", knowledge_version=3, entry_id="greet",
        confidence=0.93, band="answer", detail='{"why": ["E0"]}', micros=400, decided_at_ms=1,
    )  # fmt: skip
    await api.desk.database.write(
        lambda connection: (
            connection.execute(
                update(messages).where(messages.c.id == message).values(decision_id=77)
            ).rowcount
        )
    )

    first = (await client.get(f"/api/v1/conversations/{conversation}/messages?limit=3")).json()
    rest = await client.get(f"/api/v1/conversations/{conversation}/messages?limit=3&cursor={first['next']}")
    texts = [item["content"]["text"] for item in first["items"] + rest.json()["items"]]
    assert texts == ["在吗", "2", "1", "0", "我要投诉你们,打12315"]
    shown = (await client.get(f"/api/v1/messages/{message}")).json()["decision"]
    assert (shown["knowledge_version"], shown["entry_id"], shown["confidence"]) == (3, "greet", 0.93)
    assert shown["detail"] == {"why": ["E0"]}


async def test_an_escalation_is_worked_through_by_http_alone(api: ApiWorld) -> None:
    _, client = await api.as_person("lin")
    _, other = await api.as_person("he")
    conversation = await api.desk.conversation()
    escalation = await api.desk.escalate(conversation)

    (listed,) = (await client.get("/api/v1/escalations")).json()["items"]
    assert listed["id"] == str(escalation)
    assert listed["order"]["receiver"]["phone"] == "138****1234"
    assert len(listed["suggestions"]) == 3
    assert (
        await other.post(f"/api/v1/escalations/{escalation}/decline", json={"reason": "忙"})
    ).status_code == 204
    accepted = await client.post(f"/api/v1/escalations/{escalation}/accept")
    assert accepted.json()["state"] == "human"
    assert (await client.post(f"/api/v1/escalations/{escalation}/accept")).status_code == 200
    late = await other.post(f"/api/v1/escalations/{escalation}/accept")
    assert (late.status_code, late.json()["code"], late.json()["by"]) == (409, "taken", "lin")
    assert (await client.get(f"/api/v1/escalations/{escalation}")).json()["accepted_by"]

    reply = {"content": {"text": "您好"}}
    where = f"/api/v1/conversations/{conversation}"
    sent = await client.post(f"{where}/messages", json=reply, headers={"Idempotency-Key": "k1"})
    again = await client.post(f"{where}/messages", json=reply, headers={"Idempotency-Key": "k1"})
    assert (sent.status_code, again.json()["id"]) == (201, sent.json()["id"])
    assert len(await api.desk.outbox_rows()) == 1
    note = await client.post(f"{where}/messages", json={"content": {"text": "急"}, "note": True})
    assert note.json()["direction"] == "note"
    refused = await other.post(f"{where}/messages", json=reply)
    assert (refused.status_code, refused.json()["code"]) == (409, "held_by")
    assert (await client.post(f"{where}/resolve", json={"outcome": "solved"})).json()["state"] == "closed"
    assert (await client.get("/api/v1/escalations?state=closed")).json()["items"][0]["id"] == str(escalation)


async def test_a_buyers_orders_are_shown_masked_to_whoever_may_see_a_conversation_of_theirs(
    api: ApiWorld,
) -> None:
    _, client = await api.as_person("lin", shops=["s1"])
    _, far = await api.as_person("far", shops=["s2"])
    conversation = await api.desk.conversation()
    order = {"order_id": "O-9", "status": "paid", "receiver": {"name": "王小明", "phone": "13800001234"}}
    await put(
        api,
        order_cache,
        account_id="a-s1",
        buyer_external_id="b-c-1",
        document=json.dumps([order]),
        fetched_at_ms=1,
    )
    buyer = (await client.get(f"/api/v1/conversations/{conversation}")).json()["buyer"]["id"]

    assert [one["id"] for one in (await client.get("/api/v1/buyers")).json()["items"]] == [buyer]
    assert (await client.get(f"/api/v1/buyers/{buyer}")).json()["tags"] == ["老客"]
    (shown,) = (await client.get(f"/api/v1/buyers/{buyer}/orders")).json()["items"]
    assert (shown["order_id"], shown["receiver"]) == ("O-9", {"name": "王*", "phone": "138****1234"})
    assert shown["fetched_at"] == "1970-01-01T00:00:00.001Z"
    assert (await far.get(f"/api/v1/buyers/{buyer}")).status_code == 404
    assert (await far.get(f"/api/v1/buyers/{buyer}/orders")).status_code == 404
    assert (await far.get("/api/v1/buyers")).json()["items"] == []


async def test_of_thirty_posts_to_accept_at_once_one_wins(api: ApiWorld) -> None:
    clients = [(await api.as_person(f"a{number}"))[1] for number in range(30)]
    escalation = await api.desk.escalate(await api.desk.conversation())
    answers = await asyncio.gather(
        *(client.post(f"/api/v1/escalations/{escalation}/accept") for client in clients)
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 29


async def test_what_is_out_of_scope_does_not_exist(api: ApiWorld) -> None:
    _, client = await api.as_person("lin", groups=["presale"], shops=["s1"])
    foreign = await api.desk.conversation("c-1", shop="s2")
    foreign_message = await api.desk.buyer_says(foreign, "x")
    other_team = await api.desk.conversation("c-2")
    escalation = await api.desk.escalate(other_team, group="vip")
    for path in (
        f"conversations/{foreign}", f"conversations/{foreign}/messages", f"conversations/{other_team}",
        f"escalations/{escalation}", f"messages/{foreign_message}",
    ):  # fmt: skip
        assert (await client.get(f"/api/v1/{path}")).status_code == 404
    assert (await client.post(f"/api/v1/conversations/{foreign}/claim")).status_code == 404
    assert (await client.post(f"/api/v1/escalations/{escalation}/accept")).status_code == 404
    assert (await client.get("/api/v1/conversations")).json()["items"] == []


async def test_agents_read_no_operations_supervisors_read_all_and_only_admins_change(api: ApiWorld) -> None:
    _, agent = await api.as_person("lin")
    _, boss = await api.as_person("boss", Role.SUPERVISOR)
    reading = ("users", "shops", "settings", "accounts", "knowledge/entries", "knowledge/versions",
               "rejected-events", "deliveries", "audit", "notices")  # fmt: skip
    for path in reading:
        refused = await agent.get(f"/api/v1/{path}")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path
        assert (await boss.get(f"/api/v1/{path}")).status_code == 200, path
        assert (await api.client().get(f"/api/v1/{path}")).status_code == 401, path
    assert (await agent.get("/api/v1/groups")).status_code == 200
    new = {"name": "x", "password": PASSWORD, "role": "agent"}
    assert (await boss.post("/api/v1/users", json=new)).status_code == 403
    assert (await boss.patch("/api/v1/settings/s1", json={"bot_name": "x"})).status_code == 403
    assert (await boss.patch("/api/v1/accounts/a-s1", json={"state": "paused"})).status_code == 403
    assert "x" not in {user.name for user in await api.users.list()}


async def test_an_admin_adds_and_changes_people_but_cannot_lock_themselves_out(api: ApiWorld) -> None:
    me, admin = await api.as_person("root", Role.ADMIN)
    new = {"name": "he", "password": PASSWORD, "role": "agent", "groups": ["vip"], "max_load": 3}
    headers = {"Idempotency-Key": "add-he"}
    made = await admin.post("/api/v1/users", json=new, headers=headers)
    again = await admin.post("/api/v1/users", json=new, headers=headers)
    assert (made.status_code, made.json()) == (201, again.json())
    assert (await admin.post("/api/v1/users", json=new)).json()["code"] == "name_taken"
    token = await api.token("he")
    where = f"/api/v1/users/{made.json()['id']}"
    changed = await admin.patch(where, json={"groups": ["presale"], "disabled": True})
    assert changed.json()["groups"] == ["presale"]
    assert (await api.client(token).get("/api/v1/sessions/me")).status_code == 401
    assert (await admin.patch(f"/api/v1/users/{me.id}", json={"disabled": True})).status_code == 403
    assert (await admin.patch(f"/api/v1/users/{me.id}", json={"role": "agent"})).status_code == 403
    actions = [item["action"] for item in (await admin.get("/api/v1/audit")).json()["items"]]
    assert {"user.add", "user.change", "session.start"} <= set(actions)
    assert PASSWORD not in (await admin.get("/api/v1/audit")).text


async def test_a_group_gets_a_leader_who_belongs_to_it_and_never_loses_its_last(api: ApiWorld) -> None:
    _, admin = await api.as_person("root", Role.ADMIN)
    lin = await api.add("lin", groups=["vip"])
    group = await admin.get("/api/v1/groups/vip")
    tag = group.headers["etag"]
    assert group.json()["members"] == [str(lin.id)]

    led = await admin.patch("/api/v1/groups/vip", json={"leader_id": str(lin.id)}, headers={"If-Match": tag})
    assert led.json()["leader_id"] == str(lin.id)
    stale = await admin.patch(
        "/api/v1/groups/vip", json={"leader_id": str(lin.id)}, headers={"If-Match": tag}
    )
    assert stale.status_code == 412
    assert (await admin.patch("/api/v1/groups/vip", json={"leader_id": None})).status_code == 422
    assert (await admin.patch("/api/v1/groups/presale", json={"leader_id": str(lin.id)})).status_code == 422
    assert (await admin.get("/api/v1/groups/nope")).status_code == 404


async def test_settings_change_under_optimistic_locking_and_accounts_never_show_secrets(
    api: ApiWorld,
) -> None:
    _, admin = await api.as_person("root", Role.ADMIN)
    tag = (await admin.get("/api/v1/settings/s1")).headers["etag"]
    changed = await admin.patch("/api/v1/settings/s1", json={"bot_name": "小满"}, headers={"If-Match": tag})
    assert changed.json()["settings"]["bot_name"] == "小满"
    stale = await admin.patch("/api/v1/settings/s1", json={"bot_name": "x"}, headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
    assert (await admin.patch("/api/v1/settings/nope", json={})).status_code == 404

    secret = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
    account = {"id": "t-1", "channel": "generic", "shop_id": "s1", "settings": {"secret": secret}}
    made = await admin.post("/api/v1/accounts", json=account)
    assert made.status_code == 201, made.text
    assert secret not in made.text
    assert secret not in (await admin.get("/api/v1/accounts")).text
    assert (await admin.patch("/api/v1/accounts/t-1", json={"state": "paused"})).json()["state"] == "paused"
    assert (await admin.patch("/api/v1/accounts/t-1", json={"state": "active"})).json()["state"] == "active"
    assert (await admin.delete("/api/v1/accounts/t-1")).status_code == 204
    assert (await admin.get("/api/v1/accounts/t-1")).status_code == 404


async def test_the_draft_is_edited_under_optimistic_locking_published_and_rolled_back(api: ApiWorld) -> None:
    _, boss = await api.as_person("boss", Role.SUPERVISOR)
    where = "/api/v1/knowledge/entries/ship_time"
    made = await boss.put(where, json=ENTRY)
    assert made.status_code == 200, made.text
    tag = (await boss.get(where)).headers["etag"]
    assert (await boss.put(where, json=ENTRY)).status_code == 412
    changed = await boss.put(where, json={**ENTRY, "answer": "亲，今天就发哦。"}, headers={"If-Match": tag})
    assert changed.json()["document"]["answer"] == "亲，今天就发哦。"
    assert (await boss.put(where, json=ENTRY, headers={"If-Match": tag})).status_code == 412
    wrong = await boss.put(where, json={**ENTRY, "anwser": "x"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "knowledge_invalid")

    first = await boss.post("/api/v1/knowledge/publish", json={"note": "开张"})
    assert (first.status_code, first.json()["in_service"]) == (201, True), first.text
    second = await boss.post("/api/v1/knowledge/publish")
    back = await boss.post("/api/v1/knowledge/rollback")
    assert back.json()["version"] == first.json()["version"] == second.json()["version"] - 1
    versions = (await boss.get("/api/v1/knowledge/versions")).json()["items"]
    assert [item["in_service"] for item in versions] == [False, True]
    assert (await boss.post("/api/v1/knowledge/rollback", json={"version": 99})).status_code == 404

    assert (await boss.delete(where)).status_code == 428
    assert (await boss.delete(where, headers={"If-Match": '"1"'})).status_code == 412
    assert (await boss.delete(where, headers={"If-Match": changed.headers["etag"]})).status_code == 204
    assert (await boss.get(where)).status_code == 404


async def test_odd_webhooks_and_dead_letters_are_visible_within_ones_shops_and_can_be_sent_again(
    api: ApiWorld,
) -> None:
    _, boss = await api.as_person("boss", Role.SUPERVISOR)
    _, far = await api.as_person("far", Role.SUPERVISOR, shops=["s2"])
    conversation = await api.desk.conversation()
    message = await api.desk.buyer_says(conversation, "x")
    for number, state in enumerate(["rejected", "ignored", "parked", "done"], start=1):
        await put(
            api, inbox, id=number, account_id="a-s1", channel="generic", kind="rejected", dedupe_key=str(number),
            lane_key="l", partition=0, headers="{}", body=b"\xff{broken", received_at_ms=1, state=state,
            reason="decode_failed",
        )  # fmt: skip
    await put(
        api, outbox, id=9, conversation_id=conversation, account_id="a-s1", partition=0, message_id=message,
        author="agent", supersedable=False, payload='{"content": {"type": "text", "text": "您好"}}', state="failed",
        next_attempt_at_ms=0, deadline_ms=0, error="422", created_at_ms=1, done_at_ms=2,
    )  # fmt: skip
    await put(api, notices, id=5, kind="account_paused", subject="a-s1", text="账号已暂停", created_at_ms=1)

    shown = (await boss.get("/api/v1/rejected-events")).json()["items"]
    assert [item["state"] for item in shown] == ["parked", "ignored", "rejected"]
    assert shown[0]["body"] == "\ufffd{broken"
    assert len((await boss.get("/api/v1/rejected-events?state=parked")).json()["items"]) == 1
    assert (await far.get("/api/v1/rejected-events")).json()["items"] == []
    (dead,) = (await boss.get("/api/v1/deliveries")).json()["items"]
    assert (dead["id"], dead["error"], dead["content"]["text"]) == ("9", "422", "您好")
    assert (await far.get("/api/v1/deliveries")).json()["items"] == []
    assert (await far.post("/api/v1/deliveries/9/replay")).status_code == 404
    assert (await boss.post("/api/v1/deliveries/9/replay")).status_code == 202
    assert (await boss.post("/api/v1/deliveries/9/replay")).status_code == 404
    assert api.replayed == [9]
    assert (await boss.post("/api/v1/notices/5/seen")).status_code == 204
    assert (await boss.get("/api/v1/notices")).json()["items"][0]["seen_at"] is not None
