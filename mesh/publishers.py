"""Publishers: the doors by which events of other nodes come in, one per node for what the router remembers of it.

All of them have one identity, routing.rights.policy.NEIGHBOURS: the rules were asked where an event was published, by
its publisher's rights there, and are asked again for each who reads it here.
Used by mesh/direct.py and mesh/replication.
"""
from __future__ import annotations

from routing.publishing.publisher import Publisher
from routing.rights.policy import NEIGHBOURS

NODES_MAX = 2_000           # beyond it the cache starts afresh: a publisher is only memory of routes


class Publishers:
    """By name of the node. Loop thread only."""

    def __init__(self) -> None:
        self._by_node: dict[str, Publisher] = {}

    def of(self, node: str) -> Publisher:
        found = self._by_node.get(node)
        if found is None:
            if len(self._by_node) >= NODES_MAX:
                self._by_node.clear()
            found = self._by_node[node] = Publisher(NEIGHBOURS)
        return found
