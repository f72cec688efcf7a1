"""[mesh]: bounds and intervals of gossip and interest."""
from __future__ import annotations

import msgspec


class MeshSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults suit 200 nodes; docs/mesh.md has what they cost."""

    gossip_interval_s: float = 5.0          # how often a node says that it is alive
    expiry_s: float = 30.0                  # silence after which a node's state is forgotten; several intervals
    interest_linger_s: float = 30.0         # a filter that nobody wants any more is kept for so long
    interest_filters_max: int = 512         # told to others; with more of them some are joined into a wider one
    nodes_max: int = 1_000                  # states kept
    state_bytes_max: int = 256 * 1024       # of one node, as it travels; a larger one is refused
    memory_bytes_max: int = 96 * 1024 * 1024        # of all states, about; one neighbour gets half of what others leave
    gossip_rate_bytes: int = 1024 * 1024   # per link and direction; a peer that sends twice as much is cut off
    require_signed: bool = False            # believe only nodes that sign what they say; earlier versions do not
    skew_warn_ms: int = 1_000               # a clock that is further off is reported
    queues_shared: bool = True              # a durable queue of one name and user on several nodes is one queue
    queue_lost_s: float = 15.0              # out of sight for so long, a node collects for a queue no more
