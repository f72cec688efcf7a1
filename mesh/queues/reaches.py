"""Reaches: how far the other nodes have come in the logs of third ones, as they say. A part that goes on for a lost one
goes on from there. Stored every few seconds, since this node may be started again meanwhile.

    queue-reach/<node>      what it said last, and the ends of our partitions when we had nothing that it had not
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from routing.event import OriginPartition

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.router import Router

STATE: Final = "queue-reach/"
STORE_S: Final = 5.0
PLACES_MAX: Final = 20_000

Places: TypeAlias = list[tuple[str, str, str, int, int]]       # node, epoch, stream, index, offset


class ReachState(msgspec.Struct, array_like=True):
    places: Places
    ends: list[tuple[str, int, int]]


class _Node:
    __slots__ = ("ends", "places", "stored_s", "unstored")

    def __init__(self) -> None:
        self.places: dict[OriginPartition, int] = {}
        self.ends: dict[Partition, int] = {}
        self.unstored = False
        self.stored_s = 0.0


class Reaches:
    """Loop thread only."""

    def __init__(self, router: Router, clock_s: Callable[[], float]) -> None:
        self._router = router
        self._clock_s = clock_s
        self._nodes: dict[str, _Node] = {}

    def start(self) -> None:
        for node, state in self._router.state.decoded(STATE, ReachState, "reach of a node"):
            found = self._nodes[node] = _Node()
            found.places = self._read(state.places)
            for stream, index, offset in state.ends:
                partition = self._router.streams.partition(stream, index)
                if partition is not None:
                    found.ends[partition] = offset

    def _read(self, places: Places) -> dict[OriginPartition, int]:
        of = self._router.origins.of
        return {of(node, epoch, stream, index): offset for node, epoch, stream, index, offset in places}

    def own(self) -> Places:
        """As we say it ourselves."""
        return [(origin.node, origin.epoch, origin.stream, origin.index, self.reach(origin))
                for origin in self.origins()][:PLACES_MAX]

    def origins(self) -> list[OriginPartition]:
        """Partitions of other nodes that something has come of."""
        return [origin for origin, flow in self._router.replicas.flows() if not flow]

    def reach(self, origin: OriginPartition) -> int:
        return self._router.replicas.reach(origin, 0)

    def heard(self, node: str, places: Places) -> None:
        found = self._nodes.setdefault(node, _Node())
        found.places = self._read(places)
        found.unstored = True

    def of(self, node: str, origin: OriginPartition) -> int:
        """Where that node had come to, as far as it has said; else where we are."""
        found = self._nodes.get(node)
        known = found.places.get(origin) if found is not None else None
        return known if known is not None else self.reach(origin)

    def ends(self, node: str) -> dict[Partition, int]:
        """Below these places of ours it has everything that is not its own."""
        found = self._nodes.get(node)
        return dict(found.ends) if found is not None else {}

    def look(self, nodes: set[str]) -> None:
        """Called twice a second: have these come as far as we?"""
        ends: dict[Partition, int] | None = None
        now_s = self._clock_s()
        origins = self.origins() if nodes else []
        for node in nodes:
            found = self._nodes.get(node)
            if found is None:
                continue
            if all(found.places.get(origin, 0) >= self.reach(origin)
                   for origin in origins if origin.node != node):
                if ends is None:
                    ends = {partition: partition.end_offset for partition in self._router.own_partitions()}
                if ends != found.ends:
                    found.ends, found.unstored = ends, True
            if found.unstored and now_s >= found.stored_s + STORE_S:
                found.unstored, found.stored_s = False, now_s
                self._store(node, found)

    def _store(self, node: str, found: _Node) -> None:
        places = [(origin.node, origin.epoch, origin.stream, origin.index, offset)
                  for origin, offset in found.places.items()]
        ends = [(partition.stream, partition.index, offset) for partition, offset in found.ends.items()]
        self._router.state.put(STATE + node, msgspec.msgpack.encode(ReachState(places, ends)))
