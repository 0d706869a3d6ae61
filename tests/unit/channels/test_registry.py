"""Finding marketplaces: a folder with a description is enough, and code is imported when it is needed."""

import sys
from pathlib import Path

import pytest

from app.channels.registry import Registry, read_description
from app.core.errors import ConfigurationError, NotFoundError
from app.domain.delivery import Account
from app.domain.messages import ContentType

GOOD = 'channel = "{name}"\ntitle = "A shop"\ntier = "bronze"\nchat_in = "webhook"\n'


def make(root: Path, folder: str, text: str) -> None:
    (root / folder).mkdir()
    (root / folder / "channel.toml").write_text(text, encoding="utf-8")


def test_the_shipped_channels_are_found():
    registry = Registry()
    assert "generic" in registry.names()
    assert registry.names() == tuple(sorted(registry.names()))
    assert registry.capabilities("generic").to_wire() == {
        "channel": "generic",
        "chat_in": "webhook",
        "chat_out": "webhook",
        "events": "webhook",
        "orders": "api",
        "tier": "silver",
    }


def test_a_closed_marketplace_is_reached_by_relay():
    registry = Registry()
    assert registry.capabilities("taobao").to_wire()["chat_in"] == "relay"
    account = Account(id="t-1", channel="taobao", shop_id="s", secrets=(), settings={"chat": "relay"})
    assert registry.for_account(account) is registry.get("generic")


def test_an_account_without_relay_uses_its_own_channel():
    registry = Registry()
    account = Account(id="g-1", channel="generic", shop_id="s", secrets=(), settings={})
    assert registry.for_account(account) is registry.get("generic")
    with pytest.raises(NotFoundError):
        registry.for_account(Account(id="x", channel="nowhere", shop_id="s", secrets=(), settings={}))


def test_a_folder_with_a_description_is_a_channel_and_its_code_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "fair_channels"
    package.mkdir()
    (package / "__init__.py").touch()
    make(package, "fair", GOOD.format(name="fair"))
    (package / "fair" / "__init__.py").write_text("def build(capabilities):\n    return capabilities\n")
    (package / "no_channel").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(package, "fair_channels")
    assert registry.names() == ("fair",)
    assert "fair_channels.fair" not in sys.modules
    assert registry.get("fair") is registry.get("fair") is registry.capabilities("fair")


def test_two_folders_with_one_name_are_refused(tmp_path: Path):
    make(tmp_path, "one", GOOD.format(name="fair"))
    make(tmp_path, "two", GOOD.format(name="fair"))
    with pytest.raises(ConfigurationError, match=r"one.*two"):
        Registry(tmp_path)


def test_limits_and_content_are_read():
    text = (
        GOOD.format(name="fair")
        + 'content = ["text", "image"]\n[limits]\ntext_characters = 2000\nwindow_seconds = 172800\n'
    )
    capabilities, relays = read_description(text, where="fair")
    assert capabilities.content == {ContentType.TEXT, ContentType.IMAGE}
    assert (capabilities.limits.text_characters, capabilities.limits.window_seconds) == (2000, 172_800)
    assert relays == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "channel = ",
        'title = "x"\ntier = "bronze"\n',
        'channel = "x"\ntier = "bronze"\n',
        'channel = "x"\ntitle = "x"\ntier = "lead"\n',
        'channel = ""\ntitle = "x"\ntier = "gold"\n',
        GOOD.format(name="x") + 'content = ["smell"]\n',
        GOOD.format(name="x") + "[limits]\ntext_bites = 3\n",
    ],
)
def test_a_wrong_description_is_refused_and_names_its_file(text: str):
    with pytest.raises(ConfigurationError, match=r"^fair/channel\.toml: "):
        read_description(text, where="fair/channel.toml")
