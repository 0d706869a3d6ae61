"""What each frame of an agent does, after it has been checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from app.api import frames
from app.core.errors import InvalidError
from app.desk.conversations import ConversationService
from app.desk.escalations import EscalationService
from app.desk.people import User
from app.desk.presence import PresenceService, Status
from app.desk.sending import SendService

__all__ = ["AgentCommands", "Command"]

Command = Callable[[User, set[int], Any], Awaitable[dict[str, Any]]]
"""Takes who sends, which conversations their socket watches, and the frame's data; returns the answer's data."""


class AgentCommands:
    """The table from frame type to what it does."""

    def __init__(
        self,
        *,
        conversations: ConversationService,
        escalations: EscalationService,
        sending: SendService,
        presence: PresenceService,
    ) -> None:
        self._conversations = conversations
        self._escalations = escalations
        self._sending = sending
        self._presence = presence
        self.table: dict[str, Command] = {
            "status": self._status,
            "accept": self._accept,
            "decline": self._decline,
            "claim": self._claim,
            "send": self._send,
            "note": self._note,
            "transfer": self._transfer,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "takeover": self._takeover,
            "whisper": self._whisper,
            "release": self._release,
            "resolve": self._resolve,
            "read": self._read,
        }

    async def _status(self, user: User, _watching: set[int], data: frames.SetStatus) -> dict[str, Any]:
        await self._presence.set_status(user, Status(data.status), reason=data.reason)
        return {"status": data.status}

    async def _accept(self, user: User, _watching: set[int], data: frames.Accept) -> dict[str, Any]:
        return {"conversation": await self._escalations.accept(user, data.escalation_id)}

    async def _decline(self, user: User, _watching: set[int], data: frames.Decline) -> dict[str, Any]:
        await self._escalations.decline(user, data.escalation_id, reason=data.reason)
        return {}

    async def _claim(self, user: User, _watching: set[int], data: frames.OfConversation) -> dict[str, Any]:
        return {"conversation": await self._conversations.claim(user, data.conversation_id)}

    async def _send(self, user: User, _watching: set[int], data: frames.Send) -> dict[str, Any]:
        message = await self._sending.send(
            user,
            data.conversation_id,
            data.content.to_content(),
            client_message_id=data.client_message_id,
            last_seen_message_id=data.last_seen_message_id,
            confirm=data.confirm,
        )
        return {"message": message}

    async def _note(self, user: User, _watching: set[int], data: frames.Note) -> dict[str, Any]:
        return {"message": await self._sending.note(user, data.conversation_id, data.text)}

    async def _whisper(self, user: User, _watching: set[int], data: frames.Note) -> dict[str, Any]:
        return {"message": await self._sending.whisper(user, data.conversation_id, data.text)}

    async def _transfer(self, user: User, _watching: set[int], data: frames.Transfer) -> dict[str, Any]:
        if data.to.agent_id == 0:
            raise InvalidError("nobody has that id")
        conversation = await self._conversations.transfer(
            user, data.conversation_id, agent_id=data.to.agent_id, group_id=data.to.group_id, note=data.note
        )
        return {"conversation": conversation}

    async def _watch(self, user: User, watching: set[int], data: frames.OfConversation) -> dict[str, Any]:
        seen = await self._conversations.watch(user, data.conversation_id)
        watching.add(data.conversation_id)
        return seen

    async def _unwatch(self, _user: User, watching: set[int], data: frames.OfConversation) -> dict[str, Any]:
        watching.discard(data.conversation_id)
        return {}

    async def _takeover(self, user: User, _watching: set[int], data: frames.OfConversation) -> dict[str, Any]:
        return {"conversation": await self._conversations.take_over(user, data.conversation_id)}

    async def _release(self, user: User, _watching: set[int], data: frames.OfConversation) -> dict[str, Any]:
        return {"conversation": await self._conversations.release(user, data.conversation_id)}

    async def _resolve(self, user: User, _watching: set[int], data: frames.Resolve) -> dict[str, Any]:
        conversation = await self._conversations.resolve(
            user, data.conversation_id, outcome=data.outcome, category=data.category
        )
        return {"conversation": conversation}

    async def _read(self, user: User, _watching: set[int], data: frames.OfConversation) -> dict[str, Any]:
        await self._conversations.read(user, data.conversation_id)
        return {}
