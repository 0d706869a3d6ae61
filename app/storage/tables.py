"""Every table, as SQLAlchemy Core metadata.

Conventions: ids are 63-bit integers from ``app.core.ids`` (time-ordered, so inserts stay at an index's right edge),
instants are integer milliseconds UTC (``…_ms``), documents are JSON text written by us. Short codes are plain text
with a check in the domain types, so that a new value needs no migration.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)

__all__ = ["POSTGRESQL_INDEXES", "metadata"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""An id column: on SQLite it has to be declared INTEGER to be the row's own key."""


def _id(name: str = "id") -> Column[int]:
    return Column(name, Id, primary_key=True, autoincrement=False)


revisions = Table(
    "revisions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Id, nullable=False, server_default=text("0")),
)
"""One counter a subject (accounts, shops, knowledge, users, outbox): whoever caches it polls this one small table."""

shops = Table(
    "shops",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at_ms", Id, nullable=False),
    Column("updated_at_ms", Id, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("shop_id", Text, ForeignKey("shops.id"), nullable=False, index=True),
    Column("settings", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'active'")),
    Column("state_reason", Text),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at_ms", Id, nullable=False),
    Column("updated_at_ms", Id, nullable=False),
)
"""A shop's seat on one channel. ``settings`` is JSON whose secret values are sealed (``app.core.crypto``)."""

groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("leader_id", Id),
    Column("user_tiers", Text, nullable=False, server_default=text("'[]'")),
    Column("sources", Text, nullable=False, server_default=text("'[]'")),
    Column("version", Integer, nullable=False, server_default=text("1")),
)

users = Table(
    "users",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("password_hash", Text),
    Column("role", Text, nullable=False),
    Column("groups", Text, nullable=False, server_default=text("'[]'")),
    Column("shops", Text, nullable=False, server_default=text("'[]'")),
    Column("max_load", Integer, nullable=False, server_default=text("8")),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("created_at_ms", Id, nullable=False),
    Column("updated_at_ms", Id, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("user_id", Id, ForeignKey("users.id"), index=True),
    Column("name", Text),
    Column("role", Text),
    Column("created_at_ms", Id, nullable=False),
    Column("expires_at_ms", Id),
)
"""Signed-in people (``kind`` bearer or cookie) and scripts' tokens (``kind`` token); only hashes are stored."""

buyers = Table(
    "buyers",
    metadata,
    _id(),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("external_id", Text, nullable=False),
    Column("nickname", Text),
    Column("tier", Text),
    Column("tags", Text, nullable=False, server_default=text("'[]'")),
    Column("created_at_ms", Id, nullable=False),
    Column("updated_at_ms", Id, nullable=False),
    UniqueConstraint("account_id", "external_id"),
)

conversations = Table(
    "conversations",
    metadata,
    _id(),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("external_id", Text, nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("buyer_id", Id, nullable=False),
    Column("buyer_external_id", Text, nullable=False),
    Column("buyer_nickname", Text),
    Column("buyer_tier", Text),
    Column("partition", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("group_id", Text),
    Column("agent_id", Id),
    Column("bot_paused", Boolean, nullable=False, server_default=text("false")),
    Column("priority", Text, nullable=False, server_default=text("'normal'")),
    Column("memory", Text, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("last_message", Text),
    Column("last_message_at_ms", Id),
    Column("waiting_since_ms", Id),
    Column("unread", Integer, nullable=False, server_default=text("0")),
    Column("created_at_ms", Id, nullable=False),
    Column("updated_at_ms", Id, nullable=False),
    UniqueConstraint("account_id", "external_id"),
    Index("ix_conversations_buyer", "account_id", "buyer_external_id", "last_message_at_ms"),
    Index(
        "ix_conversations_agent",
        "agent_id",
        sqlite_where=text("state = 'human'"),
        postgresql_where=text("state = 'human'"),
    ),
    Index("ix_conversations_updated_at_ms", "updated_at_ms"),
)
"""``version`` rises with every change of owner; a lane's commit carries the version it decided on."""

inbox = Table(
    "inbox",
    metadata,
    _id(),
    Column("account_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column("lane_key", Text, nullable=False),
    Column("partition", SmallInteger, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at_ms", Id, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("tries", SmallInteger, nullable=False, server_default=text("0")),
    Column("duplicates", Integer, nullable=False, server_default=text("0")),
    Column("conversation_id", Id),
    Column("message_id", Id),
    Column("done_at_ms", Id),
    Column("seq", Id),
    UniqueConstraint("account_id", "dedupe_key"),
    Index(
        "ix_inbox_open",
        "partition",
        "id",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    Index(
        "ix_inbox_odd",
        "id",
        sqlite_where=text("state IN ('rejected', 'ignored', 'parked')"),
        postgresql_where=text("state IN ('rejected', 'ignored', 'parked')"),
    ),
)
"""Webhooks as they came: ``state`` open → done, or parked (poison), rejected, ignored (each with its reason).

``seq`` is the order of storing over all processes, given by PostgreSQL; on SQLite there is one process, its ids are in
that order, and ``seq`` stays empty."""

messages = Table(
    "messages",
    metadata,
    _id(),
    Column("conversation_id", Id, ForeignKey("conversations.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("session", Integer, nullable=False),
    Column("direction", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("author_id", Id),
    Column("external_id", Text),
    Column("content", Text, nullable=False),
    Column("created_at_ms", Id, nullable=False),
    Column("sent_at_ms", Id),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("in_reply_to", Id),
    Column("decision_id", Id),
    Column("client_message_id", Text),
    UniqueConstraint("conversation_id", "seq"),
    Index(
        "uq_messages_client",
        "conversation_id",
        "client_message_id",
        unique=True,
        sqlite_where=text("client_message_id IS NOT NULL"),
        postgresql_where=text("client_message_id IS NOT NULL"),
    ),
)
"""``status`` of inbound: received; of outbound: queued, sent, confirmed, failed, unconfirmed, dropped; of notes: note."""

decisions = Table(
    "decisions",
    metadata,
    _id(),
    Column("conversation_id", Id, ForeignKey("conversations.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("knowledge_version", Integer, nullable=False),
    Column("entry_id", Text),
    Column("confidence", Float),
    Column("band", Text),
    Column("rule", Text),
    Column("detail", Text, nullable=False),
    Column("micros", Integer, nullable=False),
    Column("decided_at_ms", Id, nullable=False),
)
"""Why a turn ended as it did: ``detail`` holds ranked matches, applied entries, reasons, order and answered messages."""

outbox = Table(
    "outbox",
    metadata,
    _id(),
    Column("conversation_id", Id, ForeignKey("conversations.id"), nullable=False),
    Column("account_id", Text, nullable=False),
    Column("partition", SmallInteger, nullable=False),
    Column("message_id", Id, nullable=False),
    Column("author", Text, nullable=False),
    Column("supersedable", Boolean, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("next_attempt_at_ms", Id, nullable=False),
    Column("deadline_ms", Id, nullable=False),
    Column("error", Text),
    Column("created_at_ms", Id, nullable=False),
    Column("done_at_ms", Id),
    Column("seq", Id),
    Index(
        "ix_outbox_open",
        "partition",
        "id",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    Index(
        "ix_outbox_failed",
        "id",
        sqlite_where=text("state = 'failed'"),
        postgresql_where=text("state = 'failed'"),
    ),
    Index("ix_outbox_message_id", "message_id"),
)
"""``state`` open → sent, failed (a dead letter) or dropped (``error`` says why). The id is the idempotency key; ``seq``
as in ``inbox``."""

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("outbox_id", Id, primary_key=True, autoincrement=False),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("started_at_ms", Id, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", Integer),
    Column("error", Text),
)
"""Every attempt to deliver, counted from 1 for each message."""

escalations = Table(
    "escalations",
    metadata,
    _id(),
    Column("conversation_id", Id, ForeignKey("conversations.id"), nullable=False),
    Column("shop_id", Text, nullable=False),
    Column("group_id", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("priority_rank", SmallInteger, nullable=False),
    Column("major", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("packet", Text, nullable=False),
    Column("waiting_since_ms", Id, nullable=False),
    Column("deadline_ms", Id, nullable=False),
    Column("offered_to", Id),
    Column("offered_at_ms", Id),
    Column("declined_by", Text, nullable=False, server_default=text("'[]'")),
    Column("accepted_by", Id),
    Column("accepted_at_ms", Id),
    Column("closed_at_ms", Id),
    Column("created_at_ms", Id, nullable=False),
    Index(
        "uq_escalations_open",
        "conversation_id",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    Index(
        "ix_escalations_queue",
        "group_id",
        "priority_rank",
        "waiting_since_ms",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)
"""``state`` open → accepted, withdrawn or closed. At most one open escalation a conversation, by a unique index."""

console_events = Table(
    "console_events",
    metadata,
    Column("seq", Id, primary_key=True, autoincrement=True),
    Column("type", Text, nullable=False),
    Column("conversation_id", Id),
    Column("shop_id", Text),
    Column("group_id", Text),
    Column("agent_id", Id),
    Column("data", Text, nullable=False),
    Column("created_at_ms", Id, nullable=False),
    sqlite_autoincrement=True,
)
"""What agents are told, stored before it is pushed. ``agent_id`` set: for that agent alone, and supervisors."""

presence = Table(
    "presence",
    metadata,
    Column("agent_id", Id, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("changed_at_ms", Id, nullable=False),
    Column("seen_at_ms", Id),
)
"""An agent's chosen status, and when a socket of theirs last gave a sign of life (None: no socket)."""

agent_connections = Table(
    "agent_connections",
    metadata,
    Column("agent_id", Id, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("process", Text, primary_key=True),
    Column("since_ms", Id, nullable=False),
)
"""Which processes hold sockets of which agents. A row is as good as its process's lease: it dies with the process."""

login_tries = Table(
    "login_tries",
    metadata,
    Column("key", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("blocked_until_ms", Id, nullable=False),
    Column("last_ms", Id, nullable=False),
)
"""Wrong passwords by account and by address, for every process alike; ``key`` is a digest of which."""

knowledge_entries = Table(
    "knowledge_entries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("category", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("updated_at_ms", Id, nullable=False),
)
"""The draft."""

knowledge_versions = Table(
    "knowledge_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("entries", Text, nullable=False),
    Column("synonyms", Text, nullable=False),
    Column("fitted", LargeBinary, nullable=False),
    Column("entry_count", Integer, nullable=False),
    Column("note", Text),
    Column("author", Text, nullable=False),
    Column("created_at_ms", Id, nullable=False),
)
"""Published versions: never changed once written. ``fitted`` is the matcher's index, made at publish."""

knowledge_synonyms = Table(
    "knowledge_synonyms",
    metadata,
    Column("id", Text, primary_key=True),
    Column("words", Text, nullable=False),
)
"""The draft's synonym groups."""

knowledge_current = Table(
    "knowledge_current",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("changed_at_ms", Id, nullable=False),
)
"""One row: which version is in service."""

order_cache = Table(
    "order_cache",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("buyer_external_id", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("fetched_at_ms", Id, nullable=False),
)
"""The last order list of a buyer; shown with its age when the order service is away."""

silent_orders = Table(
    "silent_orders",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("order_id", Text, primary_key=True),
    Column("buyer_external_id", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("updated_at_ms", Id, nullable=False),
)
"""Orders of buyers who never wrote."""

partition_leases = Table(
    "partition_leases",
    metadata,
    Column("partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", Id, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until_ms", Id, nullable=False),
)
"""Who works which partition: ``owner`` is the id of a process, or empty. A lease lasts as long as its process's
(``processes``); ``lease_until_ms`` is what revision 0001 wrote, and nothing reads it."""

processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("joined", Id, nullable=False, unique=True),
    Column("node", SmallInteger, nullable=False, unique=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("place", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at_ms", Id, nullable=False),
    Column("lease_until_ms", Id, nullable=False),
    Column("knows", Id, nullable=False),
    Column("revision", Text),
)
"""The server processes on a PostgreSQL database, each renewing its lease by the database's clock.

``joined`` counts processes in the order they came (negative until that is settled), ``knows`` is the highest of them that this one has heard of;
``node`` goes into its ids; ``place`` names the process among those of its machine; ``state`` is active or leaving;
``revision`` is that of the schema which its program was made for."""

notices = Table(
    "notices",
    metadata,
    _id(),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at_ms", Id, nullable=False),
    Column("seen_at_ms", Id),
)
"""What an admin should know: an account paused, a delivery given up."""

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("at_ms", Id, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("status", SmallInteger, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at_ms", Id, nullable=False),
)
"""Answers of posts that send or create, kept so that a repeat gets the same answer."""


POSTGRESQL_INDEXES = frozenset({"ix_inbox_lane"})
"""Indexes that only several processes need, which SQLite never has."""

for _table, _statement in (
    (inbox, "CREATE SEQUENCE inbox_seq_seq OWNED BY inbox.seq"),
    (inbox, "ALTER TABLE inbox ALTER COLUMN seq SET DEFAULT nextval('inbox_seq_seq')"),
    (inbox, "CREATE INDEX ix_inbox_lane ON inbox (account_id, lane_key) WHERE state = 'open'"),
    (outbox, "CREATE SEQUENCE outbox_seq_seq OWNED BY outbox.seq"),
    (outbox, "ALTER TABLE outbox ALTER COLUMN seq SET DEFAULT nextval('outbox_seq_seq')"),
    (processes, "CREATE SEQUENCE processes_joined_seq OWNED BY processes.joined"),
):
    event.listen(_table, "after_create", DDL(_statement).execute_if(dialect="postgresql"))
