"""Peers: the nodes that we pull from as we last saw them, and of which filters all that they retain is here."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesh.replication.filters import Selection, strip_prefix
from mesh.replication.incoming.branch import Branch
from mesh.replication.incoming.late import may_hold
from mesh.replication.incoming.pulling import Pulling
from mesh.topology.interest.covering import Covering
from routing.event import OriginPartition

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from mesh.topology.linkstate.nodestate import NodeState
    from routing.router import Router


class Peer:
    """What we last saw of a node."""

    __slots__ = ("away", "boot", "epoch", "streams", "told_of_bound", "whole")

    def __init__(self, node: NodeState) -> None:
        self.epoch = node.epoch
        self.boot = node.boot
        self.streams = node.streams
        self.away = False
        self.told_of_bound = False
        self.whole = Covering()                 # filters whose retained events are all here

    def differs(self, node: NodeState) -> bool:
        return self.away or (self.epoch, self.boot, self.streams) != (node.epoch, node.boot, node.streams)


class Peers:
    """Loop thread only."""

    def __init__(self, pulling: Pulling, branches: Mapping[OriginPartition, Branch], router: Router,
                 overlay: Overlay) -> None:
        self.by_name: dict[str, Peer] = {}
        self.border = pulling.border
        self._branches = branches
        self._origins = router.origins
        self._overlay = overlay

    def has_retained(self, pattern: str) -> bool:
        """RetainedEvents.elsewhere."""
        for name in self._overlay.nodes:
            bare = strip_prefix(pattern, self.border(name)[1])
            peer = self.by_name.get(name)
            if bare is not None and bare[:1] != "$" and (peer is None or not peer.whole.covers(bare)):
                return False
        return True

    def counts(self, node: str, patterns: list[str]) -> list[bool]:
        """See retained.Flows."""
        peer = self.by_name[node]
        captures = {stream.name: stream.captures for stream in peer.streams}
        flows = [(captures.get(branch.origin.stream, ()), branch.live.history.open())
                 for branch in self._branches.values() if branch.origin.node == node]
        return [all(pattern in counting or not may_hold(captured, pattern) for captured, counting in flows)
                for pattern in patterns]

    def brings(self, node: str, epoch: str, stream: str, index: int) -> Selection | None:
        """See retained.Flows."""
        branch = self._branches.get(self._origins.of(node, epoch, stream, index))
        return Selection(branch.live.history.intervals) if branch is not None else None

    def retained_answered(self, node: str, pattern: str) -> None:
        """See retained.Flows."""
        self.by_name[node].whole.add(pattern)
