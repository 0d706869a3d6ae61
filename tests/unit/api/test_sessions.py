"""Signing in, staying signed in, signing out."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.core.clock import rfc3339
from app.desk.auth import SESSION_SECONDS
from app.desk.permissions import Role
from app.storage.tables import sessions
from tests.api_world import PASSWORD, ApiWorld


async def test_a_script_signs_in_with_a_bearer_token_of_which_only_a_hash_is_stored(api: ApiWorld) -> None:
    await api.add("lin")
    client = api.client()

    answer = await client.post("/api/v1/sessions", json={"username": "lin", "password": PASSWORD})

    assert answer.status_code == 201
    body = answer.json()
    assert body["user"]["name"] == "lin"
    assert body["expires_at"] == rfc3339(api.desk.clock.now_ms() + SESSION_SECONDS * 1000)
    assert "set-cookie" not in answer.headers
    stored = await api.desk.database.read(
        lambda connection: connection.execute(select(sessions)).mappings().all()
    )
    assert body["token"] not in str(stored)
    me = await api.client(body["token"]).get("/api/v1/sessions/me")
    assert me.json()["user"]["id"] == body["user"]["id"]


async def test_a_page_gets_a_cookie_and_needs_its_csrf_token_to_write(api: ApiWorld) -> None:
    await api.add("boss", Role.ADMIN)
    client = api.client()
    signed_in = await client.post(
        "/api/v1/sessions", json={"username": "boss", "password": PASSWORD, "cookie": True}
    )
    csrf = signed_in.json()["csrf"]
    assert "token" not in {name for name, value in signed_in.json().items() if value is not None}
    assert "HttpOnly" in signed_in.headers["set-cookie"]
    assert "samesite=lax" in signed_in.headers["set-cookie"].lower()

    assert (await client.get("/api/v1/sessions/me")).json()["csrf"] == csrf
    new = {"name": "he", "password": PASSWORD, "role": "agent"}
    refused = await client.post("/api/v1/users", json=new)
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_invalid")
    assert (await client.post("/api/v1/users", json=new, headers={"X-CSRF-Token": "x"})).status_code == 403
    assert (await client.post("/api/v1/users", json=new, headers={"X-CSRF-Token": csrf})).status_code == 201


async def test_a_cookies_secret_is_no_bearer_token_and_the_other_way_round(api: ApiWorld) -> None:
    await api.add("lin")
    cookie = await api.sessions.sign_in("lin", PASSWORD, address="a", cookie=True)
    bearer = await api.token("lin")

    assert (await api.client(cookie.token).get("/api/v1/sessions/me")).status_code == 401
    as_cookie = api.client(headers={"Cookie": f"huoji_session={bearer}"})
    assert (await as_cookie.get("/api/v1/sessions/me")).status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer nope", "Basic eDp5", "bearer \x7f", "Bearer " + "x" * 5000]
)
async def test_garbled_tokens_are_refused_without_a_hint_which_part_is_wrong(
    api: ApiWorld, header: str
) -> None:
    answer = await api.client(headers={"Authorization": header}).get("/api/v1/conversations")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_sessions_end_by_time_by_signing_out_and_with_a_new_password(api: ApiWorld) -> None:
    await api.add("lin")
    first, second = await api.token("lin"), await api.token("lin")
    assert (await api.client(first).delete("/api/v1/sessions/me")).status_code == 204
    assert (await api.client(first).get("/api/v1/sessions/me")).status_code == 401
    assert (await api.client(second).get("/api/v1/sessions/me")).status_code == 200

    await api.users.passwd("lin", "another long password")
    assert (await api.client(second).get("/api/v1/sessions/me")).status_code == 401
    third = (await api.sessions.sign_in("lin", "another long password", address="a")).token
    api.desk.clock.advance(SESSION_SECONDS)
    assert (await api.client(third).get("/api/v1/sessions/me")).status_code == 401


async def test_a_disabled_person_is_out_at_once(api: ApiWorld) -> None:
    await api.add("lin")
    token = await api.token("lin")
    await api.users.disable("lin")

    assert (await api.client(token).get("/api/v1/sessions/me")).status_code == 401
    again = await api.client().post("/api/v1/sessions", json={"username": "lin", "password": PASSWORD})
    assert (again.status_code, again.json()["code"]) == (401, "credentials_wrong")


async def test_wrong_passwords_slow_down_the_account_and_the_address_and_unknown_names_look_the_same(
    api: ApiWorld,
) -> None:
    await api.add("lin")
    client = api.client()
    wrong = {"username": "lin", "password": "wrong password"}
    unknown = {"username": "nobody", "password": "wrong password"}

    first = (await client.post("/api/v1/sessions", json=wrong)).json()
    other = (await client.post("/api/v1/sessions", json=unknown)).json()
    assert first["code"] == other["code"] == "credentials_wrong"
    assert first["detail"] == other["detail"]
    answers = [await client.post("/api/v1/sessions", json=wrong) for _ in range(9)]

    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 5
    assert int(answers[-1].headers["retry-after"]) >= 1
    right = {"username": "lin", "password": PASSWORD}
    assert (await client.post("/api/v1/sessions", json=right)).status_code == 429
    api.desk.clock.advance(2)
    assert (await client.post("/api/v1/sessions", json=right)).status_code == 201
    assert (await client.post("/api/v1/sessions", json=right)).status_code == 201


async def test_one_address_may_not_try_many_accounts(api: ApiWorld) -> None:
    client = api.client()
    answers = [
        await client.post("/api/v1/sessions", json={"username": f"u{number}", "password": "x" * 10})
        for number in range(25)
    ]
    assert answers[-1].status_code == 429


async def test_a_huge_password_is_refused_before_it_is_hashed(api: ApiWorld) -> None:
    answer = await api.client().post("/api/v1/sessions", json={"username": "lin", "password": "p" * 900_000})
    assert (answer.status_code, answer.json()["code"]) == (400, "password_too_long")


async def test_a_scripts_token_works_and_expires(api: ApiWorld) -> None:
    now = api.desk.clock.now_ms()
    token = await api.tokens.create("nightly", role="supervisor", expires_at_ms=now + 1000)
    client = api.client(token)

    assert (await client.get("/api/v1/users")).status_code == 200
    assert (await client.post("/api/v1/conversations/1/claim")).status_code == 403
    api.desk.clock.advance(1)
    assert (await client.get("/api/v1/users")).status_code == 401
