"""What replication asks of the overlay (mesh/topology/overlay.py): who is in sight, and by which link."""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mesh.link.protocol.neighbour import Neighbour
    from mesh.topology.linkstate.nodestate import NodeInfo, NodeState


class Overlay(Protocol):
    me: NodeInfo
    came_by: Neighbour | None               # the link of the message that is looked at

    @property
    def nodes(self) -> dict[str, NodeState]: ...
    def send(self, to: str, body: bytes, priority: int) -> bool: ...
    def edge(self, node: str) -> Neighbour | None: ...
