"""Roles and what each may do.

Source: the contracts page, section 3: admin ⊃ supervisor ⊃ agent, as permission flags.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["PERMISSIONS", "SUPERVISOR_GROUP", "Permission", "Role"]

SUPERVISOR_GROUP = "supervisor"
"""The group that every supervisor and admin belongs to."""


class Role(StrEnum):
    """What a person is."""

    AGENT = "agent"
    SUPERVISOR = "supervisor"
    ADMIN = "admin"


class Permission(StrEnum):
    """One thing that may be allowed; routes and frames name the one they need."""

    WORK = "work"
    """Read one's own conversations and queues, accept, claim, reply, resolve."""
    SUPERVISE = "supervise"
    """See every conversation of one's shops; watch, take over, whisper, stand in for a group's leader."""
    READ_ALL = "read_all"
    """Read every resource: people, accounts, settings, audit, rejected events, deliveries."""
    EDIT_KNOWLEDGE = "edit_knowledge"
    PUBLISH_KNOWLEDGE = "publish_knowledge"
    REPLAY_DELIVERIES = "replay_deliveries"
    EDIT_SHOPS = "edit_shops"
    EDIT_ACCOUNTS = "edit_accounts"
    EDIT_PEOPLE = "edit_people"


_AGENT = frozenset({Permission.WORK})
_SUPERVISOR = _AGENT | {
    Permission.SUPERVISE,
    Permission.READ_ALL,
    Permission.EDIT_KNOWLEDGE,
    Permission.PUBLISH_KNOWLEDGE,
    Permission.REPLAY_DELIVERIES,
}
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.AGENT: _AGENT,
    Role.SUPERVISOR: _SUPERVISOR,
    Role.ADMIN: frozenset(Permission),
}
"""What each role may do."""
