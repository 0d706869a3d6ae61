"""Every refusal is a problem document that names the field and the fix, in the caller's language."""

from __future__ import annotations

import pytest

from app.desk.permissions import Role
from tests.api_world import PASSWORD, ApiWorld

USER = {"name": "he", "password": PASSWORD, "role": "agent"}


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"displayname": "x"}, "unknown_field", "displayname"),
        ({"max_load": "5"}, "invalid", "max_load"),
        ({"max_load": True}, "invalid", "max_load"),
        ({"name": 5}, "invalid", "name"),
        ({"role": "king"}, "invalid", "role"),
        ({"groups": ["nope"]}, "invalid", "groups"),
        ({"shops": ["nope"]}, "invalid", "shops"),
        ({"name": "a\x00b"}, "invalid", "name"),
        ({"name": " "}, "invalid", "name"),
        ({"max_load": 0}, "invalid", "max_load"),
        ({"password": "short"}, "password_too_short", "password"),
    ],
)
async def test_a_bad_field_is_named_with_its_fix(
    api: ApiWorld, change: dict[str, object], code: str, field: str
) -> None:
    _, client = await api.as_person("boss", Role.ADMIN)
    answer = await client.post("/api/v1/users", json={**USER, **change})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in {error["field"] for error in body["errors"]} or body["errors"][0]["field"].startswith(
        field
    )
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["status"] == 422


async def test_an_unknown_field_suggests_the_nearest_name(api: ApiWorld) -> None:
    _, client = await api.as_person("boss", Role.ADMIN)
    answer = await client.post("/api/v1/users", json={**USER, "displayname": "x"})
    assert answer.json()["errors"][0]["fix"] == "did you mean display_name?"


@pytest.mark.parametrize(
    ("language", "title"),
    [
        (None, "没有找到"),
        ("en-GB,en;q=0.9", "Not found"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "没有找到"),
        ("fr", "没有找到"),
        (";q=x", "没有找到"),
    ],
)
async def test_problems_speak_chinese_unless_english_is_asked_for(
    api: ApiWorld, language: str | None, title: str
) -> None:
    headers = {"Accept-Language": language} if language else {}
    answer = await api.client(headers=headers).get("/api/v1/nothing-here")
    assert (answer.status_code, answer.json()["title"]) == (404, title)
    assert answer.json()["code"] == "not_found"


async def test_a_wrong_method_is_a_problem_with_allow(api: ApiWorld) -> None:
    answer = await api.client().put("/api/v1/sessions", json={})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe{}", b'{"username": ' + b"[" * 100_000, b"", b'{"username": 1e999}', b"[]", b"null"],
)
async def test_broken_bodies_are_refused_not_crashed_on(api: ApiWorld, body: bytes) -> None:
    answer = await api.client().post(
        "/api/v1/sessions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_over_the_cap_is_refused(api: ApiWorld) -> None:
    answer = await api.client().post("/api/v1/sessions", content=b" " * (1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=1000000000", "limit=x", "cursor=zzz", "cursor=W10=", "cursor=Wy0xXQ=="],
)
async def test_paging_out_of_range_is_refused_with_the_range(api: ApiWorld, query: str) -> None:
    _, client = await api.as_person("boss", Role.ADMIN)
    answer = await client.get(f"/api/v1/users?{query}")
    assert (answer.status_code, answer.json()["code"]) in {(400, "out_of_range"), (400, "cursor_invalid")}


@pytest.mark.parametrize(
    "given", ["0", "-1", str(2**63), "9" * 40, "1 OR 1=1", "..%2f..%2fetc", "%00", "１２", "true"]
)
async def test_ids_that_cannot_exist_are_not_found(api: ApiWorld, given: str) -> None:
    _, client = await api.as_person("boss", Role.ADMIN)
    for path in ("conversations", "escalations", "messages", "users"):
        assert (await client.get(f"/api/v1/{path}/{given}")).status_code == 404


async def test_every_answer_carries_the_headers_that_browsers_act_on(api: ApiWorld) -> None:
    answer = await api.client().get("/api/v1/conversations")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_an_unexpected_failure_hides_its_cause(api: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    _, client = await api.as_person("boss", Role.ADMIN)

    async def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api.services.shops, "list_shops", broken)
    answer = await client.get("/api/v1/shops")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
