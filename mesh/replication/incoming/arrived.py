"""Arrived: consumers that came from another node, as long as some of their events are still on their way here.

Stored: "handover/in/<name>", from when they are placed until all has come. See handover.py.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from mesh.replication.messages import Want
from mesh.replication.positions import Moved, Need, Skew
from routing.event import OriginPartition

if TYPE_CHECKING:
    from routing.router import Router

IN: Final = "handover/in/"


class Arrived:
    """Loop thread only."""

    def __init__(self, router: Router, skew_ms: Skew) -> None:
        self.by_name: dict[str, Moved] = {}
        self._router = router
        self._skew_ms = skew_ms

    def needs(self, origins: Collection[OriginPartition]) -> dict[OriginPartition, list[Want]]:
        """History that placed consumers may lack here, of these partitions and of those that they name."""
        found: dict[OriginPartition, list[Want]] = {}
        for moved in self.by_name.values():
            for need in moved.needs(self._router, origins, self._skew_ms):
                found.setdefault(need.origin, []).append(need.begin)
        return found

    def has_all(self, origins: Collection[OriginPartition], is_met: Callable[[Need], bool]) -> None:
        """is_met(need): whatever is wanted of it is in our log."""
        for name, moved in list(self.by_name.items()):
            consumer = self._router.registry.by_name.get(name)
            if consumer is None or all(
                is_met(need) for need in moved.needs(self._router, origins, self._skew_ms)
                if need.begin.filter in consumer.filters
            ):
                del self.by_name[name]
                self._router.state.delete(IN + name)

    def published(self) -> None:
        """Events of other nodes were put into our log: consumers that came from elsewhere may have had them there."""
        for name in self.by_name:
            consumer = self._router.registry.by_name.get(name)
            if consumer is not None:
                for cursor in consumer.cursors.values():
                    cursor.repeats_below = max(cursor.repeats_below, cursor.partition.next_offset)
