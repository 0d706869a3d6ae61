"""The demo's accounts: each demo shop's seat on the sandbox marketplace, with fresh secrets."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from app.channels.signing import SECRET_PREFIX
from app.core.ids import Ids

__all__ = ["SANDBOX_CHANNEL", "SANDBOX_SEATS", "AccountSpec", "sandbox_accounts"]

SANDBOX_CHANNEL = "generic"
"""The sandbox speaks the generic channel, like any relay."""

SANDBOX_SEATS: Mapping[str, str] = {"sandbox-qinghezhan": "qinghezhan", "sandbox-shanyeji": "shanyeji"}
"""Account id to shop id of the two demo shops."""

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """An account to be made: ``settings`` as the channel's, several values for a setting that repeats."""

    id: str
    channel: str
    shop_id: str
    settings: Mapping[str, str | tuple[str, ...]]


def sandbox_accounts(base_url: str, *, ids: Ids) -> tuple[AccountSpec, ...]:
    """Return the accounts of the demo shops, with secrets that nobody has seen before.

    Args:
        base_url: where this server is reached from itself, such as ``http://127.0.0.1:8000``.
        ids: source of the secrets.
    """
    root = base_url.rstrip("/")
    return tuple(
        AccountSpec(
            id=account_id,
            channel=SANDBOX_CHANNEL,
            shop_id=shop_id,
            settings={
                "secret": (_secret(ids),),
                "callback_url": f"{root}/sandbox/callback/{account_id}",
                "orders_url": f"{root}/sandbox/orders/{account_id}",
                "orders_token": ids.token(),
            },
        )
        for account_id, shop_id in SANDBOX_SEATS.items()
    )


def _secret(ids: Ids) -> str:
    # Tokens are URL-safe base64; secrets are written in the standard alphabet.
    text = ids.token(_KEY_BYTES)
    key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")
