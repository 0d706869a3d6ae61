"""The generic channel: Standard Webhooks both ways, also spoken by relays. See docs/channels/generic.md."""

from app.channels.base import ChannelFactory
from app.channels.generic.adapter import GenericAdapter

__all__ = ["build"]

build: ChannelFactory = GenericAdapter
