"""Shops, their settings, and their marketplace accounts, whose secrets never leave."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.context import ApiServices, Caller, Services, expected_version, need
from app.api.once import IdempotencyKey, once
from app.api.schemas import AccountBody, AccountOut, AccountPatch, Page, SettingsOut, ShopOut
from app.core.errors import NotFoundError, StaleError
from app.desk.auth import Principal
from app.desk.permissions import Permission
from app.shops.accounts import AccountInfo
from app.shops.service import ShopInfo

__all__ = ["router"]

router = APIRouter(tags=["shops"], dependencies=[need(Permission.READ_ALL)])

EDIT_SHOPS = [need(Permission.EDIT_SHOPS)]
EDIT_ACCOUNTS = [need(Permission.EDIT_ACCOUNTS)]


@router.get("/shops", response_model=Page[ShopOut], operation_id="listShops")
async def list_shops(principal: Caller, api: Services) -> dict[str, Any]:
    """One's shops."""
    return {"items": [_shop(shop) for shop in await _visible_shops(api, principal)], "next": None}


@router.get("/shops/{shop_id}", response_model=ShopOut, operation_id="getShop")
async def get_shop(shop_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """One shop."""
    return _shop(await _find_shop(api, principal, shop_id))


@router.get("/settings", response_model=Page[SettingsOut], operation_id="listSettings")
async def list_settings(principal: Caller, api: Services) -> dict[str, Any]:
    """The settings of each of one's shops."""
    return {"items": [_settings(shop) for shop in await _visible_shops(api, principal)], "next": None}


@router.get("/settings/{shop_id}", response_model=SettingsOut, operation_id="getSettings")
async def get_settings(shop_id: str, response: Response, principal: Caller, api: Services) -> dict[str, Any]:
    """A shop's settings; the ETag goes into If-Match of a change."""
    shop = await _find_shop(api, principal, shop_id)
    response.headers["ETag"] = f'"{shop.version}"'
    return _settings(shop)


@router.patch(
    "/settings/{shop_id}", response_model=SettingsOut, operation_id="changeSettings", dependencies=EDIT_SHOPS
)
async def change_settings(
    shop_id: str,
    settings: Annotated[dict[str, Any], Body(description="Names to values; null takes a setting away.")],
    request: Request,
    response: Response,
    principal: Caller,
    api: Services,
) -> dict[str, Any]:
    """Change a shop's settings; with If-Match only if nobody changed them since."""
    shop = await _find_shop(api, principal, shop_id)
    expected = expected_version(request)
    if expected is not None and expected != shop.version:
        raise StaleError("the settings were changed meanwhile; read them again", code="version_mismatch")
    changed = await api.shops.set_shop(shop_id, settings, actor=principal.name)
    response.headers["ETag"] = f'"{changed.version}"'
    return _settings(changed)


@router.get("/accounts", response_model=Page[AccountOut], operation_id="listAccounts")
async def list_accounts(principal: Caller, api: Services) -> dict[str, Any]:
    """The accounts of one's shops."""
    user = principal.scope()
    found = [one for one in await api.shops.list_accounts() if user.sees_shop(one.shop_id)]
    return {"items": [_account(one) for one in found], "next": None}


@router.get("/accounts/{account_id}", response_model=AccountOut, operation_id="getAccount")
async def get_account(account_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """One account."""
    return _account(await _find_account(api, principal, account_id))


@router.post(
    "/accounts",
    status_code=201,
    response_model=AccountOut,
    operation_id="addAccount",
    dependencies=EDIT_ACCOUNTS,
)
async def add_account(body: AccountBody, principal: Caller, api: Services, key: IdempotencyKey = None) -> Any:
    """Connect a shop's account on a channel."""

    async def add() -> dict[str, Any]:
        return _account(
            await api.shops.add_account(
                body.channel, body.id, shop_id=body.shop_id, settings=body.settings, actor=principal.name
            )
        )

    return await once(api, principal, "accounts", key, add)


@router.patch(
    "/accounts/{account_id}",
    response_model=AccountOut,
    operation_id="changeAccount",
    dependencies=EDIT_ACCOUNTS,
)
async def change_account(
    account_id: str, body: AccountPatch, principal: Caller, api: Services
) -> dict[str, Any]:
    """Change settings, pause, or resume."""
    account = await _find_account(api, principal, account_id)
    if body.settings is not None:
        account = await api.shops.set_account(account_id, body.settings, actor=principal.name)
    if body.state == "paused":
        account = await api.shops.pause_account(account_id, actor=principal.name)
    elif body.state == "active":
        account = await api.shops.resume_account(account_id, actor=principal.name)
    return _account(account)


@router.delete(
    "/accounts/{account_id}", status_code=204, operation_id="removeAccount", dependencies=EDIT_ACCOUNTS
)
async def remove_account(account_id: str, principal: Caller, api: Services) -> None:
    """Disconnect an account; what was said on it stays."""
    await _find_account(api, principal, account_id)
    await api.shops.remove_account(account_id, actor=principal.name)


async def _visible_shops(api: ApiServices, principal: Principal) -> list[ShopInfo]:
    user = principal.scope()
    return [shop for shop in await api.shops.list_shops() if user.sees_shop(shop.id)]


async def _find_shop(api: ApiServices, principal: Principal, shop_id: str) -> ShopInfo:
    for shop in await _visible_shops(api, principal):
        if shop.id == shop_id:
            return shop
    raise NotFoundError("there is no such shop")


async def _find_account(api: ApiServices, principal: Principal, account_id: str) -> AccountInfo:
    user = principal.scope()
    for account in await api.shops.list_accounts():
        if account.id == account_id and user.sees_shop(account.shop_id):
            return account
    raise NotFoundError("there is no such account")


def _shop(shop: ShopInfo) -> dict[str, Any]:
    return {"id": shop.id, "name": shop.name, "version": shop.version}


def _settings(shop: ShopInfo) -> dict[str, Any]:
    return {"shop_id": shop.id, "settings": dict(shop.settings), "version": shop.version}


def _account(account: AccountInfo) -> dict[str, Any]:
    return account.to_wire() | {"version": account.version}
