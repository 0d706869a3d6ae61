"""The bus of a process without Redis: it has nobody to tell, and whoever else there is polls."""

from __future__ import annotations

from app.bus.base import Heard

__all__ = ["LocalBus"]


class LocalBus:
    """Carries nothing. What concerns this process alone is called directly, never through a bus."""

    def publish(self, topic: str, payload: str = "") -> None:
        """Do nothing."""

    def subscribe(self, topic: str, heard: Heard) -> None:
        """Do nothing: no other process will be heard."""

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    def carries(self) -> bool:
        """It never does."""
        return False

    def trouble(self) -> str | None:
        """There is none."""
        return None
