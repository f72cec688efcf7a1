"""Settings of streams and the limits of the routing core. mesh/configuration decodes TOML into them."""
from __future__ import annotations

import enum

import msgspec


class Durability(enum.Enum):
    FSYNC = "fsync"     # a ticket completes after fdatasync
    WRITE = "write"     # a ticket completes after write(2)


class StreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream: which topics it captures and how its log is kept."""

    name: str
    capture: tuple[str, ...] = ()
    partitions: int = 1
    retention_ms: int | None = None         # None: keep for ever
    retention_bytes: int | None = None      # per partition; None: no bound
    durability: Durability = Durability.FSYNC
    compact: bool = False                   # keep the last record per key
    tombstone_ms: int = 24 * 3600 * 1000    # compact: how long a deletion stays; Kafka's delete.retention.ms
    compact_after_ms: int = 0               # and what is younger is not touched; Kafka's min.compaction.lag.ms
    topic: str | None = None                # template for records that come without a topic, such as "orders/{key}"
    segment_bytes: int = 256 * 1024 * 1024  # roll at this size; Kafka's default is 1 GiB, smaller makes retention finer
    segment_ms: int = 24 * 3600 * 1000      # roll at this age, so that retention by age can drop whole segments
    batch_bytes_max: int = 1024 * 1024 + 12 # of a Kafka producer, as it sends it; Kafka's max.message.bytes


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the routing core. Every one has a reason or a precedent."""

    payload_bytes_max: int = 1024 * 1024            # Kafka message.max.bytes and the packet limit of the design
    topic_levels_max: int = 128
    headers_max: int = 1024                         # per event
    partitions_max: int = 4_000                     # of streams made at run time and all others; each has a file open
    transaction_timeout_max_ms: int = 15 * 60_000   # Kafka's transaction.max.timeout.ms; Flink asks for an hour
    transactional_ids_max: int = 10_000             # remembered, for a week after their last use; with a share per user
    transaction_bytes_max: int = 1024 * 1024        # offsets of groups that wait for the end of one transaction,
    transactions_bytes_max: int = 64 * 1024 * 1024  # and of all, with a share per user
    expanded_bytes_max: int = 16 * 1024 * 1024      # what a compressed batch of a Kafka producer may come to
    subscriptions_per_client_max: int = 10_000
    in_flight_max: int = 1_000                      # per consumer member; MQTT clients lower it by Receive Maximum
    in_flight_bytes_max: int = 16 * 1024 * 1024     # per consumer: unacked payloads in memory,
    in_flight_user_bytes: int = 64 * 1024 * 1024    # and of all consumers of a user together
    untracked_bytes_max: int = 1024 * 1024          # per MQTT session: unacked events that no stream captures
    consumer_pending_events: int = 1_000            # handed over at the tail in one turn, beyond it the log is read
    pending_commit_bytes: int = 64 * 1024 * 1024    # events waiting for the disk before publishers are refused
    early_delivery: bool = True                     # to members of queues over AMQP: before the sync, as in RabbitMQ
    commit_gather_ms: int = 3                       # longest wait for many small publishers to share a sync; 0: none
    tail_cache_bytes: int = 64 * 1024 * 1024        # of all partitions, one has a quarter: recent events kept decoded
    pace_wait_ms: float = 100.0                     # longest wait of who publishes to a queue that is behind; 0: none
    pace_events: int = 4_000                        # that may be published to it before what its consumers take counts
    retained_events_max: int = 1_000_000
    retained_bytes_max: int = 512 * 1024 * 1024
    retained_wait_s: float = 3.0                    # a new subscription waits for what other nodes retain, then goes on
    dedupe_window: int = 10_000                     # message ids remembered per publisher
    policy_cache_bytes: int = 16 * 1024 * 1024      # decisions remembered, of all clients: some 40,000
    user_share: float = 0.5                         # of what the other users leave of a ceiling; 1: no share
    match_cache_topics: int = 100_000               # topics whose routes are kept,
    match_cache_bytes: int = 64 * 1024 * 1024       # and what they may take, with their receivers
    answer_cache_bytes: int = 32 * 1024 * 1024      # of all consumers: which topics they want
    queue_memory_bytes: int = 4 * 1024 * 1024       # of one queue: events that no stream captures
    queue_bindings_max: int = 10_000                # of one queue
    dedupe_bytes: int = 64 * 1024 * 1024            # of the ids of all publishers; one gets a sixteenth at most
    slice_ms: float = 2.0                           # of the loop, for one client before others have theirs
    turn_ms: float = 6.0                            # all slices of a loop turn; small messages wait a few turns at most
