"""The demo's accounts."""

from __future__ import annotations

from app.channels.addresses import AddressPolicy
from app.channels.registry import Registry
from app.sandbox.accounts import sandbox_accounts
from tests.fakes import FakeIds


def test_the_channel_accepts_the_accounts_where_loopback_is_allowed(ids: FakeIds):
    policy = AddressPolicy.parse(["127.0.0.1"])
    for spec in sandbox_accounts("http://127.0.0.1:8000/", ids=ids):
        assert Registry().get(spec.channel).check_settings(spec.settings, policy=policy) == []
        assert spec.settings["orders_url"] == f"http://127.0.0.1:8000/sandbox/orders/{spec.id}"


def test_no_two_accounts_and_no_two_demos_share_a_secret(ids: FakeIds):
    specs = (*sandbox_accounts("http://a", ids=ids), *sandbox_accounts("http://a", ids=ids))
    assert len({spec.settings["secret"] for spec in specs}) == len(specs)
    assert len({spec.settings["orders_token"] for spec in specs}) == len(specs)
