"""The LinkEvents of a node whose overlay is not there yet: links come up, frames are counted and dropped."""
from __future__ import annotations

from mesh.link.frames import Gossip, Relay
from mesh.link.neighbour import Neighbour
from routing.errors import Refusal


class Alone:
    def __init__(self) -> None:
        self.dropped = 0

    def neighbour_up(self, neighbour: Neighbour) -> Refusal | None:
        return None

    def neighbour_down(self, neighbour: Neighbour, reason: str) -> None:
        """Nothing was routed over it."""

    def received(self, neighbour: Neighbour, frame: Gossip | Relay) -> None:
        self.dropped += 1
