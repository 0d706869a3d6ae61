"""Shops and accounts as stored: what is refused, what is sealed, what a running server notices."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, insert, select

from app.channels.registry import Registry
from app.core.crypto import SecretBox
from app.core.errors import ConflictError, InvalidError, NotFoundError
from app.core.metrics import Metrics
from app.shops.accounts import account_secrets
from app.shops.directory import account_from_row
from app.shops.service import ShopService
from app.storage import schema
from app.storage.database import Database, read_revisions
from app.storage.tables import accounts, audit, buyers
from tests.fakes import FakeClock, FakeIds

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
BOX = SecretBox(bytes(32))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database with every table."""
    await schema.upgrade(database_url)
    database = Database(database_url, metrics=Metrics())
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def service(database: Database, clock: FakeClock, ids: FakeIds) -> ShopService:
    return ShopService(database, registry=Registry(), box=BOX, clock=clock, ids=ids)


def row(connection: Connection, account_id: str = "a-1"):
    return dict(connection.execute(select(accounts).where(accounts.c.id == account_id)).mappings().one())


def actions(connection: Connection) -> list[str]:
    return [found.action for found in connection.execute(select(audit).order_by(audit.c.id))]


async def test_an_account_is_stored_with_its_secrets_sealed_and_opens_again(
    service: ShopService, database: Database
):
    info = await service.add_account(
        "generic", "a-1", shop_id="s-1",
        settings={"secret": [SECRET, OTHER], "callback_url": "https://relay.example/out", "orders_token": "hush-hush"},
    )  # fmt: skip
    assert info.settings == {
        "secret": ("***", "***"), "callback_url": "https://relay.example/out", "orders_token": "***",
    }  # fmt: skip
    stored = await database.read(row)
    assert SECRET not in stored["settings"]
    assert "hush-hush" not in stored["settings"]
    account = account_from_row(stored, BOX, Registry())
    assert account.secrets == (bytes(range(32)), bytes(range(1, 33)))
    assert account.settings == {"callback_url": "https://relay.example/out", "orders_token": "hush-hush"}
    assert account_secrets(stored, BOX) == (SECRET, OTHER)


async def test_a_new_account_makes_its_shop(service: ShopService):
    await service.add_account("generic", "a-1", shop_id="s-1", settings={})
    await service.add_account("generic", "a-2", shop_id="s-1", settings={})
    assert [(shop.id, shop.name) for shop in await service.list_shops()] == [("s-1", "s-1")]


async def test_an_id_that_is_taken_is_refused_and_the_account_stays(service: ShopService):
    await service.add_account(
        "generic", "a-1", shop_id="s-1", settings={"callback_url": "https://one.example"}
    )
    with pytest.raises(ConflictError, match="already an account"):
        await service.add_account("generic", "a-1", shop_id="s-2", settings={})
    assert [account.shop_id for account in await service.list_accounts()] == ["s-1"]
    assert [shop.id for shop in await service.list_shops()] == ["s-1"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"calback_url": "https://x.example"}, "did you mean callback_url"),
        ({"secret": "whsec_c2hvcnQ="}, "shorter than 24 bytes"),
        ({"callback_url": "http://127.0.0.1/x"}, "private network"),
        ({"callback_url": "https://user:pw@x.example/"}, "must not carry a user name"),
    ],
)
async def test_settings_that_the_channel_refuses_are_told_by_field(
    service: ShopService, settings: dict[str, str], said: str
):
    with pytest.raises(InvalidError, match=said) as caught:
        await service.add_account("generic", "a-1", shop_id="s-1", settings=settings)
    assert caught.value.errors
    assert await service.list_accounts() == []


async def test_unknown_channels_and_unusable_ids_are_refused(service: ShopService):
    with pytest.raises(NotFoundError):
        await service.add_account("nowhere", "a-1", shop_id="s-1", settings={})
    for account_id in ("", "a/1", "a 1", "x" * 65, "账号"):
        with pytest.raises(InvalidError):
            await service.add_account("generic", account_id, shop_id="s-1", settings={})
    for shop_id in ("", " s", "s/1", "x" * 65):
        with pytest.raises(InvalidError):
            await service.add_account("generic", "a-1", shop_id=shop_id, settings={})


async def test_setting_changes_what_is_given_and_an_empty_value_removes(
    service: ShopService, database: Database
):
    await service.add_account(
        "generic", "a-1", shop_id="s-1",
        settings={"secret": [SECRET], "callback_url": "https://one.example/", "orders_token": "t"},
    )  # fmt: skip
    changed = await service.set_account("a-1", {"secret": [OTHER, SECRET], "orders_token": ""})
    assert changed.settings == {"secret": ("***", "***"), "callback_url": "https://one.example/"}
    assert account_secrets(await database.read(row), BOX) == (OTHER, SECRET)
    with pytest.raises(InvalidError):
        await service.set_account("a-1", {"callback_url": "gopher://x"})
    with pytest.raises(NotFoundError):
        await service.set_account("a-9", {})


async def test_pausing_and_resuming_is_seen_with_its_reason(service: ShopService):
    await service.add_account("generic", "a-1", shop_id="s-1", settings={})
    paused = await service.pause_account("a-1", reason="stocktaking")
    assert (paused.state, paused.state_reason) == ("paused", "stocktaking")
    resumed = await service.resume_account("a-1")
    assert (resumed.state, resumed.state_reason) == ("active", None)


async def test_an_unused_account_is_deleted(service: ShopService, database: Database):
    await service.add_account("generic", "a-1", shop_id="s-1", settings={"secret": SECRET})
    await service.remove_account("a-1")
    assert await service.list_accounts() == []
    assert await database.read(lambda c: c.execute(select(accounts)).all()) == []
    with pytest.raises(NotFoundError):
        await service.remove_account("a-1")


async def test_an_account_with_history_loses_its_secrets_and_can_be_added_again(
    service: ShopService, database: Database
):
    await service.add_account("generic", "a-1", shop_id="s-1", settings={"secret": SECRET})
    await database.write(
        lambda c: c.execute(
            insert(buyers).values(id=1, account_id="a-1", external_id="b-1", created_at_ms=0, updated_at_ms=0)
        )
    )
    await service.remove_account("a-1")
    stored = await database.read(row)
    assert (stored["state"], stored["settings"]) == ("removed", "{}")
    assert await service.list_accounts() == []
    for attempt in (service.find_account, service.pause_account, service.remove_account):
        with pytest.raises(NotFoundError):
            await attempt("a-1")
    again = await service.add_account("generic", "a-1", shop_id="s-1", settings={})
    assert again.state == "active"


async def test_every_change_moves_the_revision_that_servers_poll_and_is_audited(
    service: ShopService, database: Database
):
    seen = await database.read(read_revisions)
    steps = [
        lambda: service.add_account("generic", "a-1", shop_id="s-1", settings={"secret": SECRET}),
        lambda: service.set_account("a-1", {"callback_url": "https://x.example"}),
        lambda: service.pause_account("a-1"),
        lambda: service.resume_account("a-1"),
        lambda: service.remove_account("a-1"),
    ]
    for step in steps:
        await step()
        now = await database.read(read_revisions)
        assert now["accounts"] > seen.get("accounts", 0)
        seen = now
    await service.set_shop("s-1", {"welcome": "欢迎光临"})
    assert (await database.read(read_revisions))["shops"] > seen["shops"]
    assert await database.read(actions) == [
        "account.add", "account.set", "account.pause", "account.resume", "account.remove", "shop.set",
    ]  # fmt: skip
    details = await database.read(lambda c: "".join(found.detail for found in c.execute(select(audit))))
    assert SECRET not in details


async def test_shop_settings_are_merged_checked_and_taken_away_by_null(service: ShopService):
    await service.set_shop("s-1", {"name": "青禾栈", "welcome": "您好", "courier": "中通快递"})
    shop = await service.set_shop("s-1", {"burst_quiet": 0, "courier": None})
    assert (shop.name, shop.settings, shop.version) == ("青禾栈", {"welcome": "您好", "burst_quiet": 0}, 2)
    with pytest.raises(InvalidError, match="burst_quiet"):
        await service.set_shop("s-1", {"burst_quiet": -1})
    assert (await service.list_shops())[0].settings == {"welcome": "您好", "burst_quiet": 0}


async def test_importing_a_shop_replaces_its_settings(service: ShopService):
    await service.set_shop("s-1", {"welcome": "您好"})
    shop = await service.import_shop({"shop_id": "s-1", "name": "新店", "promos": [{"name": "双11"}]})
    assert (shop.id, shop.name, shop.settings) == ("s-1", "新店", {"promos": [{"name": "双11"}]})
    other = await service.import_shop({"name": "二店"}, shop_id="s-2")
    assert other.id == "s-2"
    named = await service.import_shop({"name": "三店"})
    assert (named.id, named.name) == ("三店", "三店")
    with pytest.raises(InvalidError, match="shop_id"):
        await service.import_shop({"welcome": "您好"})
