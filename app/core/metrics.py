"""Counters and histograms by name, in one object that is passed around. Described in ``docs/metrics.md``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Every metric of one process, on a registry of its own (so that tests may have many)."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.webhooks = Counter(
            "huoji_webhooks_total",
            "Webhook requests answered, by channel and outcome.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.ack_seconds = Histogram(
            "huoji_webhook_ack_seconds",
            "From a webhook's last byte to its durable ack.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "huoji_batch_rows",
            "Jobs in one committed transaction of the batch writer.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=registry,
        )
        self.batch_failures = Counter(
            "huoji_batch_failures_total", "Transactions of the batch writer that failed.", registry=registry
        )
        self.decisions = Counter(
            "huoji_decisions_total", "Turns decided, by kind.", ["kind"], registry=registry
        )
        self.decide_seconds = Histogram(
            "huoji_decide_seconds",
            "Understanding and deciding one turn.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.reply_seconds = Histogram(
            "huoji_reply_seconds",
            "From a message's arrival to its reply being delivered.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.deliveries = Counter(
            "huoji_delivery_attempts_total",
            "Attempts to deliver a message, by channel and outcome.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.sqlite_wal_bytes = Gauge(
            "huoji_sqlite_wal_bytes",
            "Size of the embedded database's write-ahead log.",
            registry=registry,
        )
        self.open_inbox = Gauge("huoji_inbox_open", "Events taken and not yet worked off.", registry=registry)
        self.open_outbox = Gauge("huoji_outbox_open", "Messages waiting to be delivered.", registry=registry)
        self.outbox_oldest_seconds = Gauge(
            "huoji_outbox_oldest_seconds",
            "Age of the oldest message that waits to be delivered.",
            registry=registry,
        )
        self.breakers_open = Gauge(
            "huoji_breakers_open",
            "Accounts whose messages are held back after repeated failure.",
            registry=registry,
        )
        self.dead_letters = Counter(
            "huoji_dead_letters_total", "Messages given up: refused for good, or too old.", registry=registry
        )
        self.parked = Counter(
            "huoji_parked_total", "Events set aside after failing three times.", registry=registry
        )
        self.agents_connected = Gauge(
            "huoji_agent_sockets", "Agents' sockets that are open.", registry=registry
        )
        self.handshakes_refused = Counter(
            "huoji_agent_handshakes_refused_total",
            "Agents' sockets told to come again, because too many began at once.",
            registry=registry,
        )
        self.bus_connected = Gauge(
            "huoji_bus_connected", "Whether hints reach the other processes through Redis.", registry=registry
        )
        self.bus_published = Counter(
            "huoji_bus_published_total", "Hints sent to other processes.", ["topic"], registry=registry
        )
        self.bus_dropped = Counter(
            "huoji_bus_dropped_total", "Hints that Redis didn't take.", ["topic"], registry=registry
        )
        self.bus_heard = Counter(
            "huoji_bus_heard_total", "Hints heard from other processes.", ["topic"], registry=registry
        )
        self.partitions_owned = Gauge(
            "huoji_partitions_owned",
            "Partitions of conversations that this process works.",
            registry=registry,
        )
        self.lease_changes = Counter(
            "huoji_lease_changes_total",
            "Partitions that changed hands, by what that was for this process.",
            ["change"],
            registry=registry,
        )
        self.fenced_writes = Counter(
            "huoji_fenced_writes_total",
            "Turns and marks refused because their partition has another owner.",
            registry=registry,
        )
        self.loop_blocked = Counter(
            "huoji_loop_blocked_total",
            "Times that the event loop didn't turn for two seconds.",
            registry=registry,
        )
        self.processes = Gauge(
            "huoji_processes", "Processes that share this database, this one included.", registry=registry
        )
        self.oldest_open_seconds = Gauge(
            "huoji_inbox_oldest_seconds",
            "Age of the oldest event of this process's partitions that isn't worked off.",
            registry=registry,
        )
        self.logs_dropped = Counter(
            "huoji_logs_dropped_total", "Log lines that the sink didn't take.", registry=registry
        )

    def render(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)
