"""Hold: an origin's durable memory of its destinations, so that retention waits for one that is away.

    partition   ├─ retention would remove ─┤
                       └ confirmed by the slowest destination ──────────────► end
                ├ goes ┤├──── held ────────┤      at most hold_bytes and hold_age; beyond it the spill policy decides

Stored per destination in the router's state table: "hold/<node>" the floors, once a second when they have moved, and
"hold-filters/<node>/<stream>/<partition>/<flow>" what it wants, so that its lag is exact while it is away.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.replication.filters import Selection
from mesh.replication.messages import Want
from mesh.replication.settings import ReplicationSettings, Spill
from routing.errors import Reason, Refusal
from routing.log.retention import expired_count

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.router import Router

log = logging.getLogger(__name__)

FLOORS: Final = "hold/"
FILTERS: Final = "hold-filters/"
STORE_S: Final = 1.0
SEEN_STEP_MS: Final = 60_000    # how exactly it is stored when a node was last heard
SILENT_S: Final = 600.0         # many times the keep-alive of a flow
DESTINATIONS_MAX: Final = 4_096
NOWHERE: Final = 1 << 62        # above all offsets
FLOWS_MAX: Final = 4_096        # of one destination: some for each partition
FILTERS_BYTES_MAX: Final = 512 * 1024   # of the filters of one destination, as they are stored
ALL_FILTERS_BYTES_MAX: Final = 8 * 1024 * 1024      # of all destinations
AWAY_BYTES_MAX: Final = 4 * 1024   # of a flow's filters, for them to stay in memory while nobody pulls it

Place = tuple[str, int, int]    # stream, partition, flow


class Floors(msgspec.Struct, array_like=True):
    seen_ms: int                # wall clock
    floors: list[tuple[str, int, int, int]]     # stream, partition, flow, confirmed


class Filters(msgspec.Struct, array_like=True):
    wants: list[Want]
    excludes: list[Want] = []
    only: tuple[tuple[str, ...], ...] = ()


class Held:
    """One flow of a destination: where it stands, and what it wants."""

    __slots__ = ("confirmed", "filters_bytes", "heard_s", "selection", "taken")

    def __init__(self, confirmed: int, selection: Selection, heard_s: float, filters_bytes: int) -> None:
        self.confirmed = confirmed
        self.selection = selection
        self.heard_s = heard_s
        self.filters_bytes = filters_bytes      # as they are stored
        self.taken: Selection | None = None     # that of the outlet, when it was looked at


class Destination:
    """What we know of a node that pulls from us."""

    def __init__(self, node: str, seen_ms: int) -> None:
        self.node = node
        self.seen_ms = seen_ms
        self.stored_seen_ms = 0
        self.flows: dict[Place, Held] = {}
        self.filters_bytes = 0                  # of all flows, as they are stored
        self.dirty = False
        self.here_since_s: float | None = None  # monotonic; None: it cannot be reached
        self.spilled = 0                        # offsets removed before it had them, by bounds of ours


class Hold:
    """Loop thread only."""

    def __init__(self, router: Router, clock_s: Callable[[], float],
                 limits: ReplicationSettings) -> None:
        self.destinations: dict[str, Destination] = {}
        self.free_bytes: Callable[[], int | None] = lambda: None        # of the disk, see Replication.watch_disk
        self.spilled = 0
        self.held_bytes: dict[Partition, int] = {}      # kept beyond retention
        self._router = router
        self._clock_s = clock_s
        self._steady_ms = router.steady_ms      # what is kept for a node goes by time in which it could have come
        self._limits = limits
        self._due_s = 0.0
        self._filters_bytes = 0
        self._everything = Selection((Want("#", 0),))
        self._restore()

    # -- what destinations say --------------------------------------------------------------------------------

    def confirmed(self, node: str, place: Place, selection: Selection, confirmed: int) -> None:
        """A Pull came: the destination lives, wants this of the flow, and has everything below an offset."""
        destination = self.destinations.get(node)
        if destination is None:
            if len(self.destinations) >= DESTINATIONS_MAX:
                return
            destination = self.destinations[node] = Destination(node, self._steady_ms())
        destination.seen_ms = self._steady_ms()
        held = destination.flows.get(place)
        if held is None:
            if len(destination.flows) >= FLOWS_MAX:
                return
            held = destination.flows[place] = Held(-1, Selection(()), 0.0, 0)
        held.heard_s = self._clock_s()
        if held.taken is not selection:
            self._take_filters(destination, place, held, selection)
        if held.confirmed != confirmed:
            held.confirmed = confirmed
            destination.dirty = True

    def _take_filters(self, destination: Destination, place: Place, held: Held, selection: Selection) -> None:
        """Store what a flow wants. Beyond FILTERS_BYTES_MAX of a destination, or ALL_FILTERS_BYTES_MAX, it counts
        as wanting everything: what it has not confirmed is kept all the same, only its lag is a guess while it is away.
        """
        held.selection = held.taken = selection
        data = msgspec.msgpack.encode(Filters(list(selection.wants), list(selection.excludes), selection.only))
        others = destination.filters_bytes - held.filters_bytes
        self._filters_bytes -= held.filters_bytes
        if (others + len(data) > FILTERS_BYTES_MAX
                or self._filters_bytes + len(data) > ALL_FILTERS_BYTES_MAX):
            held.selection = self._everything
            data = msgspec.msgpack.encode(Filters([Want("#", 0)]))
        destination.filters_bytes = others + len(data)
        self._filters_bytes += len(data)
        held.filters_bytes = len(data)
        self._router.state.put(_filters_key(destination.node, place), data)

    def closed(self, node: str, place: Place, selection: Selection) -> None:
        """The flow is not pulled now. What it wants stays in memory only if it is little."""
        destination = self.destinations.get(node)
        held = destination.flows.get(place) if destination is not None else None
        if held is not None and held.taken is selection:
            held.taken = None
            if held.filters_bytes > AWAY_BYTES_MAX:
                held.selection = self._everything

    def forgotten(self, node: str, place: Place) -> None:
        """The destination says that it will not come back for this."""
        destination = self.destinations.get(node)
        held = destination.flows.pop(place, None) if destination is not None else None
        if destination is not None and held is not None:
            destination.filters_bytes -= held.filters_bytes
            self._filters_bytes -= held.filters_bytes
            self._router.state.delete(_filters_key(node, place))
            destination.dirty = True
            if not destination.flows:
                self.forget(node)

    def forget(self, node: str) -> bool:
        """Nothing is kept for this node any more. Also the operator's way."""
        destination = self.destinations.pop(node, None)
        if destination is None:
            return False
        self._filters_bytes -= destination.filters_bytes
        for place in destination.flows:
            self._router.state.delete(_filters_key(node, place))
        self._router.state.delete(FLOORS + node)
        return True

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float, reachable: Collection[str]) -> None:
        """reachable: names of nodes."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + STORE_S
        now_ms = self._steady_ms()
        self._forget_silent(now_s, reachable)
        for destination in list(self.destinations.values()):
            if now_ms - destination.seen_ms > self._limits.hold_age_ms:
                log.warning("node %s was not heard for so long that nothing is kept for it any more", destination.node)
                self.forget(destination.node)
            elif destination.dirty or destination.seen_ms - destination.stored_seen_ms >= SEEN_STEP_MS:
                self._store(destination)
        free = self.free_bytes()
        tight = free is not None and free < self._limits.hold_free_bytes
        floors = self._floors()
        for partition in self._router.own_partitions():
            self._bound(partition, floors.get((partition.stream, partition.index)), now_ms, tight)

    def _forget_silent(self, now_s: float, reachable: Collection[str]) -> None:
        """A node that is here and does not pull a flow any more has closed it: its word on that got lost."""
        for destination in list(self.destinations.values()):
            if destination.node not in reachable:
                destination.here_since_s = None
                continue
            if destination.here_since_s is None:
                destination.here_since_s = now_s
            for place, held in list(destination.flows.items()):
                if now_s - max(held.heard_s, destination.here_since_s) > SILENT_S:
                    self.forgotten(destination.node, place)

    def _bound(self, partition: Partition, floor: int | None, now_ms: int, tight: bool) -> None:
        """Say what retention must keep, and no more than the bounds allow."""
        segments = partition.segments
        removable = segments[:expired_count(segments, partition.settings, now_ms)]
        held = [] if floor is None else [segment for segment in removable if segment.next_offset > floor]
        size = sum(segment.size for segment in held)
        partition.held_up = None
        if held and (size > self._limits.hold_bytes or tight):
            if self._limits.spill is Spill.REFUSE:
                partition.held_up = Refusal(Reason.STORAGE_FULL, (
                    f"{size} bytes wait for nodes that are away, the bound is [replication] hold_bytes; "
                    "publishing goes on when they have caught up or are forgotten"))
            else:
                while held and (size > self._limits.hold_bytes or tight):
                    size -= held[0].size
                    floor = held.pop(0).next_offset
                    self._spill(partition, floor)
        self.held_bytes[partition] = size
        partition.held_from = floor

    def _spill(self, partition: Partition, stop: int) -> None:
        for destination in self.destinations.values():
            lost = max((stop - held.confirmed for (stream, index, _), held in destination.flows.items()
                        if (stream, index) == (partition.origin_name, partition.index)), default=0)
            if lost > 0:
                destination.spilled += lost
                self.spilled += lost
                log.error("%s/%d: offsets up to %d are removed before node %s has them: it stands at %d",
                          partition.stream, partition.index, stop, destination.node, stop - lost)

    def _floors(self) -> dict[tuple[str, int], int]:
        """As floor(), of all partitions that somebody pulls, in one look at the flows."""
        floors: dict[tuple[str, int], int] = {}
        for destination in self.destinations.values():
            for (stream, index, _), held in destination.flows.items():
                if held.confirmed < floors.get((stream, index), NOWHERE):
                    floors[stream, index] = held.confirmed
        return floors

    def floor(self, partition: Partition) -> int | None:
        """The first offset that some destination has not confirmed; None when nobody pulls the partition."""
        return min((held.confirmed for destination in self.destinations.values()
                    for (stream, index, _), held in destination.flows.items()
                    if (stream, index) == (partition.origin_name, partition.index)), default=None)

    # -- stored -----------------------------------------------------------------------------------------------

    def _store(self, destination: Destination) -> None:
        destination.dirty = False
        destination.stored_seen_ms = destination.seen_ms
        floors = [(*place, held.confirmed) for place, held in destination.flows.items()]
        self._router.state.put(
            FLOORS + destination.node, msgspec.msgpack.encode(Floors(destination.seen_ms, floors)))

    def _restore(self) -> None:
        for node, stored in self._router.state.decoded(FLOORS, Floors, "floors of a node"):
            destination = self.destinations[node] = Destination(node, stored.seen_ms)
            for stream, index, flow, confirmed in stored.floors:
                place = stream, index, flow
                selection, size = self._stored_selection(node, place)
                destination.flows[place] = Held(confirmed, selection, self._clock_s(), size)
                destination.filters_bytes += size
                self._filters_bytes += size

    def _stored_selection(self, node: str, place: Place) -> tuple[Selection, int]:
        """And how much of the state it is."""
        stored = self._router.state.read(_filters_key(node, place), Filters, "filters of a destination")
        if stored is None:
            return Selection(()), 0
        size = len(msgspec.msgpack.encode(stored))
        return (Selection(stored.wants, stored.excludes, stored.only) if size <= AWAY_BYTES_MAX
                else self._everything), size

    def flows(self) -> Iterator[tuple[Destination, Place, Held]]:
        for destination in self.destinations.values():
            for place, held in destination.flows.items():
                yield destination, place, held


def _filters_key(node: str, place: Place) -> str:
    return f"{FILTERS}{node}/{place[0]}/{place[1]}/{place[2]}"


class Forecast:
    """When the disk will be full, if it goes on like this. Growth is smoothed over some minutes."""

    __slots__ = ("_last", "growth_bytes_s")

    def __init__(self) -> None:
        self.growth_bytes_s = 0.0
        self._last: tuple[float, int] | None = None

    def sample(self, now_s: float, used_bytes: int) -> None:
        if self._last is not None:
            before_s, before = self._last
            passed_s = now_s - before_s
            if passed_s < 1.0:
                return
            share = min(1.0, passed_s / 120)
            self.growth_bytes_s += ((used_bytes - before) / passed_s - self.growth_bytes_s) * share
        self._last = now_s, used_bytes

    def full_in_s(self, free_bytes: int | None) -> float | None:
        """Seconds, None when the disk does not fill or its size is not known."""
        if free_bytes is None or self.growth_bytes_s <= 0:
            return None
        return free_bytes / self.growth_bytes_s
