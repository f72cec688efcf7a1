"""Origins: one object per partition of another node, so that what belongs to it can be compared by identity."""
from __future__ import annotations

from routing.event import OriginPartition

ORIGINS_MAX = 100_000       # beyond it equal objects may exist twice, which costs time and breaks nothing


class Origins:
    """(node, epoch, stream, index) → OriginPartition."""

    def __init__(self) -> None:
        self._known: dict[OriginPartition, OriginPartition] = {}

    def of(self, node: str, epoch: str, stream: str, index: int) -> OriginPartition:
        origin = OriginPartition(node, epoch, stream, index)
        if len(self._known) >= ORIGINS_MAX:
            self._known.clear()
        return self._known.setdefault(origin, origin)
