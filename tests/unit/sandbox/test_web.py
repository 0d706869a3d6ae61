"""The sandbox over HTTP: the page, its API, and what shops' servers call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import app.sandbox
from app.domain.knowledge import Snapshot
from app.domain.shops import ShopPolicy
from app.sandbox.web import create_sandbox
from app.storage.database import Database
from tests.unit.sandbox.conftest import OUTDOOR, World

STATIC = Path(app.sandbox.__file__).parent / "static"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    sandbox = create_sandbox(
        market=world.market,
        database=cast("Database", None),
        snapshot=lambda: Snapshot(version=0, entries=()),
        shop=lambda shop_id: ShopPolicy(id=shop_id, name=shop_id),
    )
    with TestClient(Starlette(routes=[Mount("/sandbox", sandbox)])) as client:
        yield client


def begin(client: TestClient) -> dict[str, Any]:
    return client.post("/sandbox/api/sessions", json={}).json()


def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(client: TestClient):
    answer = client.get("/sandbox/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("page", ["index.html", "agents.html"])
def test_the_pages_hold_no_script_or_style_of_their_own(page: str):
    html = (STATIC / page).read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", html) == []


def test_no_script_turns_text_into_markup():
    for script in STATIC.glob("*.js"):
        assert (
            re.findall(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text("utf-8")
            )
            == []
        )


@pytest.mark.parametrize(
    "name", sorted(path.name for path in STATIC.iterdir() if path.suffix in (".js", ".css", ".svg"))
)
def test_everything_the_page_needs_is_served(client: TestClient, name: str):
    assert client.get(f"/sandbox/static/{name}").status_code == 200


def test_every_text_of_the_page_exists_in_both_languages():
    texts = (STATIC / "texts.js").read_text("utf-8")
    chinese, english = texts.split("const en = {")[0], texts.split("const en = {")[1].split("\n};")[0]
    keys = re.compile(r"(?:^|[\s{,])([a-z_]+): (?:\"|\()")
    assert set(keys.findall(chinese)) == set(keys.findall(english))


def test_a_visitor_finds_two_shops_and_six_buyers(client: TestClient):
    world = begin(client)
    assert [shop["open"] for shop in world["shops"]] == [True, True]
    assert len(world["buyers"]) >= 6
    assert client.get(f"/sandbox/api/sessions/{world['session']}").json()["session"] == world["session"]


def test_an_unknown_session_is_told_so(client: TestClient):
    answer = client.get("/sandbox/api/sessions/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "sandbox_session_unknown")


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"account_id": OUTDOOR, "buyer": "xiaolu"},
        {"account_id": OUTDOOR, "buyer": "xiaolu", "content": {"type": "text", "text": " "}},
        {"account_id": OUTDOOR, "buyer": "xiaolu", "content": {"type": "text", "text": "很" * 4001}},
        {
            "account_id": OUTDOOR,
            "buyer": "xiaolu",
            "content": {"type": "image", "url": "http://elsewhere/x.png"},
        },
        {"account_id": "other", "buyer": "xiaolu", "content": {"type": "text", "text": "在吗"}},
        {"account_id": OUTDOOR, "buyer": "nobody", "content": {"type": "text", "text": "在吗"}},
    ],
)
def test_what_can_t_be_said_is_refused(client: TestClient, said: dict[str, Any]):
    session = begin(client)["session"]
    assert client.post(f"/sandbox/api/sessions/{session}/messages", json=said).status_code == 422


def test_another_site_s_page_can_t_write(client: TestClient):
    forged = client.post("/sandbox/api/sessions", json={}, headers={"sec-fetch-site": "cross-site"})
    assert forged.status_code == 403
    form = client.post("/sandbox/api/sessions", content=b"{}", headers={"content-type": "text/plain"})
    assert form.status_code == 422


def test_a_picture_is_kept_and_shown_and_anything_else_is_not(client: TestClient):
    session = begin(client)["session"]
    url = client.post(f"/sandbox/api/sessions/{session}/images", content=PNG).json()["url"]
    shown = client.get(url.removeprefix("http://127.0.0.1:8000"))
    assert (shown.content, shown.headers["content-type"]) == (PNG, "image/png")
    html = client.post(f"/sandbox/api/sessions/{session}/images", content=b"<script>")
    assert html.status_code == 422


def test_a_picture_that_is_too_large_is_refused(client: TestClient):
    session = begin(client)["session"]
    answer = client.post(f"/sandbox/api/sessions/{session}/images", content=PNG + bytes(2 * 1024 * 1024))
    assert answer.status_code == 413


def test_the_order_service_answers_whoever_has_the_token(client: TestClient, world: World):
    buyer = next(iter(world.market.orders(world.session, OUTDOOR, world.buyer)))["buyer_id"]
    token = world.accounts[OUTDOOR].settings["orders_token"]
    address = f"/sandbox/orders/{OUTDOOR}"
    listed = client.get(address, params={"buyer_id": buyer}, headers={"authorization": f"Bearer {token}"})
    assert len(listed.json()["items"]) > 5
    one = listed.json()["items"][0]["order_id"]
    found = client.get(
        f"{address}/{one}", params={"buyer_id": buyer}, headers={"authorization": f"Bearer {token}"}
    )
    assert found.json()["order_id"] == one
    assert client.get(address, params={"buyer_id": buyer}).status_code == 401


def test_an_unsigned_reply_is_refused(client: TestClient):
    assert client.post(f"/sandbox/callback/{OUTDOOR}", content=b"{}").status_code == 401
    assert client.post("/sandbox/callback/nobody", content=b"{}").status_code == 404
