"""Neighbours: the links that are up, by the node at their other end, and the ways that begin with them. Sans-IO.

Several links to one neighbour stand in the order of preference; the first one that takes a message carries it. Used by
overlay.py.
"""
from __future__ import annotations

from typing import Any, cast

from mesh.link.protocol.neighbour import Neighbour
from mesh.topology.gossip.flood import Peer
from mesh.topology.gossip.own import link_info
from mesh.topology.linkstate.linkstate import LinkState
from mesh.topology.linkstate.nodestate import LinkInfo
from mesh.topology.paths.meeting import meeting
from mesh.topology.paths.paths import Paths


class Edge:
    """A neighbour as the way to a node behind it: by which less may pass."""

    __slots__ = ("exports", "imports", "neighbour", "way")

    def __init__(self, neighbour: Neighbour, way: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        """way: what the nodes behind the neighbour let pass to that node, and from it."""
        self.neighbour = neighbour
        self.way = way
        self.exports = meeting(neighbour.exports, way[0])
        self.imports = meeting(neighbour.imports, way[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.neighbour, name)


class Neighbours:
    """Of one overlay."""

    def __init__(self, peers: dict[int, Peer], states: LinkState, paths: Paths) -> None:
        """peers: those with which gossip is exchanged, by the identity of their Neighbour; kept up here."""
        self.peers = peers
        self.by_node: dict[str, list[Peer]] = {}        # neighbour → its links, the best one first
        self._states = states
        self._paths = paths
        self._edges: dict[str, Edge] = {}

    def add(self, peer: Peer) -> None:
        self.peers[id(peer.neighbour)] = peer
        self.by_node.setdefault(peer.neighbour.node, []).append(peer)

    def remove(self, peer: Peer) -> bool:
        """True: it was the best one to its node."""
        left = self.by_node[peer.neighbour.node]
        was_best = left[0] is peer
        left.remove(peer)
        if not left:
            del self.by_node[peer.neighbour.node]
        return was_best

    def way_to(self, name: str) -> list[Peer]:
        """Links to the next hop, the best one first; none when the node cannot be reached."""
        node = self._paths.nodes.get(name)
        return self.by_node.get(node.next_hop, []) if node is not None else []

    def edge(self, name: str) -> Neighbour | None:
        """The link by which a node is reached now, with what all links on the way there let pass."""
        peers = self.way_to(name)
        if not peers:
            return None
        neighbour = peers[0].neighbour
        if neighbour.node == name:
            return neighbour
        edge = self._edges.get(name)
        if edge is None or edge.neighbour is not neighbour:
            edge = self._edges[name] = Edge(neighbour, self._paths.borders(name))
        return cast(Neighbour, edge)

    def edges_changed(self) -> set[str]:
        """The paths are new: nodes on whose way something else may pass than before."""
        edges, self._edges = self._edges, {}
        return {name for name, edge in edges.items() if self._paths.borders(name) != edge.way}

    def sort(self) -> list[str]:
        """Put the best link of each first. Returns the neighbours to which another one is the best now."""
        changed = []
        for node, peers in self.by_node.items():
            best = peers[0]
            peers.sort(key=self._preference)
            if peers[0] is not best:
                changed.append(node)
        return changed

    def infos(self, told: tuple[LinkInfo, ...]) -> tuple[LinkInfo, ...]:
        """One per neighbour, of its best link. told: what was said last; figures change only when they differ much."""
        before = {info.node: info for info in told}
        return tuple(link_info(self.by_node[node][0].neighbour, before.get(node)) for node in sorted(self.by_node))

    @property
    def prefixes(self) -> frozenset[str]:
        """What the links put before the topics that enter."""
        return frozenset(peer.neighbour.prefix for peer in self.peers.values() if peer.neighbour.prefix)

    def _preference(self, peer: Peer) -> tuple[bool, int, float, str]:
        """One to an earlier run of the neighbour goes last: it is about to break."""
        neighbour = peer.neighbour
        known = self._states.nodes.get(neighbour.node)
        stale = known is not None and known.boot != neighbour.boot
        return stale, neighbour.cost, neighbour.rtt_s or 0.0, neighbour.link
