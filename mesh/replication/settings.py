"""What a configuration file may say about replication: [[replicate]] tables and the bounds in [replication]."""
from __future__ import annotations

import enum

import msgspec


class From(enum.Enum):
    EARLIEST = "earliest"
    LATEST = "latest"


class Spill(enum.Enum):
    """What goes first when events held back for a node that is away take more than hold_bytes."""

    DROP_OLDEST = "drop-oldest"     # retention goes on: that node loses the oldest, counted and shown
    REFUSE = "refuse"               # publishers are refused until it has caught up or is forgotten


class ReplicateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[replicate]] table: wanted from every node, even when nobody here subscribes."""

    filter: str
    begin: From = msgspec.field(default=From.LATEST, name="from")


class ReplicationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[replication]: bounds of what nodes send each other. Every one has a reason or a precedent."""

    window_bytes: int = 8 * 1024 * 1024             # per flow: 16 MB/s at half a second of round trip
    window_total_bytes: int = 128 * 1024 * 1024     # of all flows into this node; shared evenly among them
    batch_bytes: int = 128 * 1024                   # of one frame: some 2 ms of a 500 Mbit/s link
    filters_max: int = 1_000                        # asked of one node; beyond it they are widened
    history_max: int = 500                          # intervals remembered per origin partition, for back-fills
    flows_max: int = 10_000                         # that other nodes may have open here
    filters_bytes: int = 96 * 1024 * 1024           # of their filters; a neighbour gets half of what others leave
    cache_bytes: int = 16 * 1024 * 1024             # of what flows remember of topics, in and out each
    linger_s: float = 30.0                          # an interest that went is kept so long: clients come back
    keepalive_s: float = 10.0                       # a quiet flow says so this often
    flow_expiry_s: float = 60.0                     # what nobody pulls for so long is let go; it can come back
    hold_bytes: int = 10 * 1024 * 1024 * 1024       # per partition: kept beyond retention for nodes that are away
    hold_age_ms: int = msgspec.field(default=7 * 86_400_000, name="hold_age")      # and so long
    hold_free_bytes: int = 512 * 1024 * 1024        # free on the disk; with less of it the spill policy decides too
    spill: Spill = Spill.DROP_OLDEST
    retained_page_bytes: int = 128 * 1024           # of a retained snapshot, per frame
    exports_max: int = 1_000                        # consumers that are moving to another node at a time
    group_kept_s: float = 7 * 86_400.0              # a share group without a member here, for sessions away elsewhere


class ReplicationConfig(msgspec.Struct, frozen=True):
    """All of it, as Replication takes it."""

    replicate: tuple[ReplicateSettings, ...] = ()
    limits: ReplicationSettings = ReplicationSettings()
