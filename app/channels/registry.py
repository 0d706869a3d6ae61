"""Finds the marketplaces: every folder beside this file with a ``channel.toml``. Nothing else lists them.

The descriptions are read at once; a marketplace's code is imported when it is first needed.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, cast

from app.channels.base import Capabilities, ChannelAdapter, ChannelFactory, Limits
from app.core.errors import ConfigurationError, NotFoundError
from app.domain.delivery import Account
from app.domain.messages import ContentType

__all__ = ["RELAY_CHANNEL", "Registry", "read_description"]

RELAY_CHANNEL = "generic"
"""The channel whose wire format relays speak."""

_TIERS = frozenset({"bronze", "silver", "gold"})


class Registry:
    """Every channel of this program, by name."""

    def __init__(self, root: Traversable | None = None, package: str = "app.channels") -> None:
        """Read the descriptions of every folder in ``root`` (default: this package's own).

        Raises:
            ConfigurationError: a description is wrong, or two folders claim one name.
        """
        self._package = package
        self._folders: dict[str, str] = {}
        self._capabilities: dict[str, Capabilities] = {}
        self._adapters: dict[str, ChannelAdapter] = {}
        relays: set[str] = set()
        for folder, text in _find(root if root is not None else files("app.channels")):
            capabilities, relayed = read_description(text, where=f"{folder}/channel.toml")
            name = capabilities.channel
            if name in self._folders:
                raise ConfigurationError(
                    f"the channel {name!r} is claimed by {self._folders[name]} and by {folder}"
                )
            self._folders[name] = folder
            self._capabilities[name] = capabilities
            relays |= relayed
        self._add_relays(relays)

    def names(self) -> tuple[str, ...]:
        """Return every channel's name, sorted."""
        return tuple(sorted(self._capabilities))

    def capabilities(self, name: str) -> Capabilities:
        """Return what a channel can do, without importing its code.

        Raises:
            NotFoundError: there is no such channel.
        """
        try:
            return self._capabilities[name]
        except KeyError:
            raise NotFoundError(f"there is no channel {name!r}", code="channel_unknown") from None

    def get(self, name: str) -> ChannelAdapter:
        """Return a channel's adapter.

        Raises:
            NotFoundError: there is no such channel.
        """
        adapter = self._adapters.get(name)
        if adapter is None:
            adapter = self._adapters[name] = self._load(name)
        return adapter

    def for_account(self, account: Account) -> ChannelAdapter:
        """Return the adapter that an account's webhooks and replies go through: with ``chat=relay`` the generic one.

        Raises:
            NotFoundError: there is no such channel.
        """
        if account.settings.get("chat") == "relay":
            return self.get(RELAY_CHANNEL)
        return self.get(account.channel)

    def _load(self, name: str) -> ChannelAdapter:
        capabilities = self.capabilities(name)
        module = importlib.import_module(f"{self._package}.{self._folders[name]}")
        return cast("ChannelFactory", module.build)(capabilities)

    def _add_relays(self, names: set[str]) -> None:
        for name in names - self._folders.keys():
            self._folders[name] = self._folders[RELAY_CHANNEL]
            self._capabilities[name] = replace(
                self._capabilities[RELAY_CHANNEL],
                channel=name,
                title=name,
                chat_in="relay",
                chat_out="relay",
                events="relay",
                tier="bronze",
            )


def read_description(text: str, *, where: str) -> tuple[Capabilities, frozenset[str]]:
    """Read a ``channel.toml``: what the channel can do, and the marketplaces that are relayed in its format.

    Raises:
        ConfigurationError: it isn't TOML, or lacks or misnames something; the message begins with ``where``.
    """
    try:
        document = tomllib.loads(text)
        if document.get("tier") not in _TIERS:
            raise ValueError(f"tier must be one of {', '.join(sorted(_TIERS))}")
        limits = Limits(**cast("dict[str, Any]", document.get("limits", {})))
        capabilities = Capabilities(
            channel=_text(document, "channel"),
            title=_text(document, "title"),
            chat_in=document.get("chat_in"),
            chat_out=document.get("chat_out"),
            events=document.get("events"),
            orders=document.get("orders"),
            tier=_text(document, "tier"),
            content=frozenset(ContentType(kind) for kind in document.get("content", ["text"])),
            idempotent_send=bool(document.get("idempotent_send", False)),
            limits=limits,
        )
        return capabilities, frozenset(cast("list[str]", document.get("relays", [])))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text")
    return value


def _find(root: Traversable) -> Iterator[tuple[str, str]]:
    for folder in sorted(root.iterdir(), key=lambda entry: entry.name):
        if folder.is_dir():
            description = folder.joinpath("channel.toml")
            if description.is_file():
                yield folder.name, description.read_text("utf-8")
