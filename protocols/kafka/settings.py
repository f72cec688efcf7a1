"""Settings and limits of the Kafka server, every bound with its reason. mesh/configuration decodes TOML into this."""
from __future__ import annotations

import msgspec


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Kafka server: all of its listeners share it."""

    advertise: str = ""                             # "host:port" that clients come back to; "": where they came to
    cluster_id: str = ""                            # "": made from the log's own id, so it stays

    cluster: tuple[str, ...] = ()                   # nodes of the mesh that are one cluster with this one, in order
    cluster_lost_s: float = 6.0                     # a leader of which nothing is heard for so long is lost

    # before a login
    pre_auth_bytes_max: int = 64 * 1024             # of one request
    login_timeout_s: float = 30.0                   # from the connection to a login
    mechanisms: tuple[str, ...] = ()                # SASL mechanisms that are offered, in this order; empty: all

    # connections
    connections_max: int = 20_000                   # with a share per user, and the quota of one
    request_bytes_max: int = 16 * 1024 * 1024       # Kafka's own bound is 100 MiB; a producer's default request 1 MiB
    request_items_max: int = 10_000                 # array elements in one request: some 20 ms to read at worst; also
                                                    # partitions of one fetch session, which stand for as many
    pipeline_max: int = 64                          # Produce requests of one connection that wait for the disk
    idle_timeout_s: float = 600.0                   # Kafka's connections.max.idle.ms
    bodies_bytes_max: int = 256 * 1024 * 1024       # of all requests that are still coming in, with a share per user
    write_buffer_high_bytes: int = 256 * 1024
    write_buffer_low_bytes: int = 64 * 1024

    # topics
    auto_create_topics: bool = True                 # on a client's wish, as Kafka's auto.create.topics.enable
    default_partitions: int = 1                     # of topics that are made without saying how many
    topics_max: int = 1_000                         # streams that there may be, with a share per user
    replication_factor: str = "clamp"               # "clamp": take any and have one; "refuse": only 1 and -1

    # fetch
    fetch_bytes_max: int = 8 * 1024 * 1024          # of one answer, whatever is asked for; one batch always fits
    fetch_wait_max_s: float = 60.0                  # a longer max_wait is cut to this
    session_partitions_max: int = 500_000           # in fetch sessions, some 200 bytes each, with a share per user
    answers_bytes_max: int = 256 * 1024 * 1024      # fetched and not yet taken by sockets, with a share per user

    # quotas
    quota_entities_max: int = 1_000                 # users and client ids that have quotas

    # groups
    groups_max: int = 10_000                        # with a share per user
    group_members_max: int = 1_000                  # of one group
    group_metadata_bytes_max: int = 1024 * 1024     # what the members of one group say of themselves, together
    groups_bytes_max: int = 256 * 1024 * 1024       # that and their assignments, of all groups, with a share per user
    session_timeout_min_ms: int = 1_000             # Kafka's is 6,000
    session_timeout_max_ms: int = 1_800_000
    rebalance_timeout_max_ms: int = 1_800_000
    initial_rebalance_delay_s: float = 0.3          # of an empty group: members that start together join together
    consumer_heartbeat_interval_ms: int = 5_000     # of members whose partitions the node assigns (KIP-848)
    consumer_session_timeout_ms: int = 45_000
    share_heartbeat_interval_ms: int = 5_000        # of members of share groups (KIP-932); a group may have its own
    share_session_timeout_ms: int = 45_000
    share_lock_ms: int = 30_000                     # a record that is not acknowledged by then goes to another member
    share_deliveries_max: int = 5                   # of one record; then it goes to the dead letters of the group
    share_places_bytes_max: int = 4 * 1024 * 1024   # of partitions that members of one share group take from
    share_locks_max: int = 2_000                    # records that the members of one group hold together
    offset_metadata_bytes_max: int = 4096
    offsets_bytes_max: int = 256 * 1024 * 1024      # of all committed offsets, some 200 each, with a share per user
    offsets_retention_s: float = 7 * 24 * 3600.0    # of a group without members
