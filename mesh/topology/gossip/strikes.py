"""Strikes: what a neighbour sends that cannot be. One that does so again and again while the mesh is calm lies."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mesh.topology.gossip.flood import Peer

STRIKES_MAX = 16                # frames that cannot be, from one neighbour while the mesh is calm: it lies
STRIKE_EVERY_S = 0.1            # of relays that may be right by routes not heard of yet: a flow sends many at a moment


class Strikes:
    """Of all neighbours. They begin anew with each sign of life of ours."""

    def __init__(self, counts: Counter[str], clock_s: Callable[[], float]) -> None:
        self._counts = counts
        self._clock_s = clock_s
        self._of: Counter[int] = Counter()

    def add(self, peer: Peer, what: str, text: str, *, calm: bool, always: bool = False) -> None:
        """Something that should not be. While routes change (not calm) it may happen; always: it may not."""
        self._counts[what] += 1
        if not always and calm:
            now_s = self._clock_s()
            calm = now_s - peer.struck_s >= STRIKE_EVERY_S
            if calm:
                peer.struck_s = now_s
        if always or calm:
            self._of[id(peer.neighbour)] += 1
            if self._of[id(peer.neighbour)] > STRIKES_MAX:
                self.lie(peer, text)

    def lie(self, peer: Peer, text: str) -> None:
        """The link layer says goodbye and closes; neighbour_down follows."""
        if peer.cut:
            return
        peer.cut = True
        self._counts["lies"] += 1
        self.forget(peer)
        peer.neighbour.lied(text)

    def forget(self, peer: Peer) -> None:
        self._of.pop(id(peer.neighbour), None)

    def clear(self) -> None:
        self._of.clear()
