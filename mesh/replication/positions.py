"""Where a consumer stands, in terms that every node understands: origin partitions and their offsets.

    of each origin partition:   ── acked, but for those in `unacked` ──► next ── not acked ──►

describe() reads the old node's log from the consumer's cursors on, place() the new node's from the oldest unacked event
on. Both are generators that look at a step of the log at a time, so that a long backlog does not stop the loop.
"""
from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from mesh.replication.messages import BY_TIME, TIME_MAX_MS, WANTS_MAX, Count, Name, Pattern, Want
from routing.consumers.definition.members import Mode
from routing.consumers.registry.holders import NODES_MAX
from routing.event import Event, OriginPartition
from routing.topic import filter_matches

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.log.partition import Partition
    from routing.router import Router

STEP: Final = 8_192                 # records looked at per turn of the loop
UNACKED_MAX: Final = 50_000         # offsets named one by one, per origin partition; beyond it acked ones come again
AHEAD_MAX: Final = 200_000          # acked offsets remembered behind the first unacked one; beyond it they come again

Missing = Callable[[OriginPartition], list[Want]]      # see HistoryNeeds.missing
Skew = Callable[[str], int]         # of a node: its clock less ours, ms
NO_MORE: Final = 1 << 62            # next offset of a log that is gone
POSITIONS_MAX: Final = 16_384       # origin partitions that one consumer has something of
FILTERS_MAX: Final = 10_000         # of one consumer


class Position(msgspec.Struct, array_like=True):
    """missing: filters of the consumer of which the old node did not have everything below `next` yet."""

    node: Name
    epoch: Name
    stream: Name
    index: Count
    next: Count
    unacked: Annotated[list[Count], Meta(max_length=UNACKED_MAX)] = []
    missing: Annotated[list[Want], Meta(max_length=WANTS_MAX)] = []

    def is_acked(self, event: Event, offset: int, unacked: set[int]) -> bool:
        """offset: the origin's."""
        return offset < self.next and offset not in unacked and not any(
            offset < want.until and (want.since == BY_TIME or offset >= want.since) and is_behind(want, event)
            for want in self.missing)

    def begins(self, patterns: Iterable[str]) -> Iterator[Want]:
        """From where on events may not have come to the consumer: the unacked ones, and what is missing."""
        for pattern in patterns:
            yield Want(pattern, self.lowest)
        for want in self.missing:
            yield Want(want.filter, want.since, since_ms=want.since_ms)

    def origin(self, router: Router) -> OriginPartition:
        return router.origins.of(self.node, self.epoch, self.stream, self.index)

    @property
    def lowest(self) -> int:
        """No event below is unacked."""
        return min(self.next, self.unacked[0]) if self.unacked else self.next


class Moved(msgspec.Struct, array_like=True):
    """A consumer between two nodes."""

    name: Name
    filters: Annotated[list[Pattern], Meta(max_length=FILTERS_MAX)]
    positions: Annotated[list[Position], Meta(max_length=POSITIONS_MAX)]
    oldest_ms: Annotated[int, Meta(ge=-TIME_MAX_MS, le=TIME_MAX_MS)]    # no unacked event has an older timestamp
    begins: Annotated[list[Want], Meta(max_length=WANTS_MAX)] = []      # of partitions not named: from where on
    homes: Annotated[list[Name], Meta(max_length=NODES_MAX + 1)] = []   # nodes whose sessions count on it: holders.py

    def needs(self, router: Router, origins: Collection[OriginPartition], skew_ms: Skew) -> Iterator[Need]:
        """What may not have come to the consumer of the partitions that it names, and of these others."""
        named = {one.origin(router): one for one in self.positions}
        for origin, position in named.items():
            for want in position.begins(self.filters):
                yield Need(origin, want, position.next)
        for origin in origins if self.begins else ():
            if origin not in named:
                for want in self.begins:
                    yield Need(origin, later(want, skew_ms(origin.node)), None)


class Need(NamedTuple):
    origin: OriginPartition
    begin: Want
    stop: int | None                # in the origin's log: so far at least; None: nobody knows


class _Found:
    """Of one origin partition: what is unacked, as far as we have seen."""

    __slots__ = ("missing", "next", "offsets")

    def __init__(self, next_offset: int, missing: list[Want] | None = None) -> None:
        self.next = next_offset
        self.offsets = array("q")
        self.missing = missing or []


def is_behind(want: Want, event: Event) -> bool:
    """Is it an event of the filter, and not from before its time?"""
    return ((want.since != BY_TIME or event.timestamp_ms >= want.since_ms)
            and filter_matches(want.filter, event.topic))


def later(want: Want, ms: int) -> Want:
    """By a clock that is ahead by so much."""
    if want.since != BY_TIME:
        return want
    return msgspec.structs.replace(want, since_ms=min(max(0, want.since_ms + ms), TIME_MAX_MS))


def describe(router: Router, consumer: Consumer, node: str, epoch: str, missing: Missing, begins: list[Want],
             inherited: Moved | None, out: list[Moved]) -> Iterator[None]:
    """Put the one description into out. The consumer must stand still meanwhile.

    inherited: by which it came here, when something of that is still on its way.
    """
    found: dict[OriginPartition, _Found] = {}
    oldest_ms = router.clock_ms()
    for origin, flow in list(router.replicas.flows()):
        floor = router.replicas.floor(origin, 0)
        if flow == 0 and floor is not None:
            found[origin] = _Found(floor, missing(origin))
            yield
    for cursor in list(consumer.cursors.values()):
        partition = cursor.partition
        position, unacked = cursor.state(by_key=consumer.spec.mode is Mode.KEY_SHARED)
        own = router.origins.of(node, epoch, partition.origin_name, partition.index)
        found[own] = _Found(position)
        for offset in sorted(unacked):
            event = partition.event(offset)
            if event is not None:
                oldest_ms = min(oldest_ms, event.timestamp_ms)
                _note(found, own, event)
        while position < partition.end_offset:
            scan = partition.scan(position, consumer.wants, max_events=STEP, max_scanned=STEP)
            for event in scan.events:
                if event.offset not in cursor.ahead and consumer.interest.wants_event(event):
                    oldest_ms = min(oldest_ms, event.timestamp_ms)
                    if event.origin is not None:
                        _note(found, own, event)
            position = scan.next_offset
            yield
    positions = []
    if inherited is not None:                       # what we have nothing of is as it was
        positions = [one for one in inherited.positions if one.node != node and one.origin(router) not in found]
        oldest_ms = min(oldest_ms, inherited.oldest_ms)
        begins = [*inherited.begins, *(want for want in begins if want.filter not in inherited.filters)]
    for origin, entry in found.items():
        offsets = sorted(set(entry.offsets))
        if len(offsets) > UNACKED_MAX:
            entry.next = min(entry.next, offsets[UNACKED_MAX])
        unacked_list = [offset for offset in offsets[:UNACKED_MAX] if offset < entry.next]
        positions.append(Position(origin.node, origin.epoch, origin.stream, origin.index, entry.next, unacked_list,
                                  entry.missing))
    out.append(Moved(consumer.name, list(consumer.filters), positions, oldest_ms, begins))


def _note(found: dict[OriginPartition, _Found], own: OriginPartition, event: Event) -> None:
    if event.origin is None:
        found[own].offsets.append(event.offset)
        return
    entry = found.get(event.origin)
    if entry is None:
        entry = found[event.origin] = _Found(NO_MORE)
    entry.offsets.append(event.origin_offset)


def place(router: Router, consumer: Consumer, node: str, epoch: str, moved: Moved,
          skew_ms: Skew) -> Iterator[None]:
    """Set the cursors of a consumer of ours to where the description stands. It must stand still meanwhile."""
    known = {one.origin(router): (one, set(one.unacked)) for one in moved.positions}
    begins: dict[OriginPartition, list[Want]] = {}
    for origin in (*(origin for origin, _ in router.replicas.flows()), *(
            router.origins.of(node, epoch, partition.origin_name, partition.index) for partition in consumer.cursors)):
        if origin not in known:
            begins[origin] = [later(want, skew_ms(origin.node)) for want in moved.begins]
    unnamed = [want for wants in begins.values() for want in wants]
    placed: list[tuple[Partition, int, set[int], int]] = []
    for partition in list(consumer.cursors):
        own = router.origins.of(node, epoch, partition.origin_name, partition.index)
        end = partition.end_offset
        position = min(_first_unknown(router, known, own, partition), partition.offset_for_time(moved.oldest_ms),
                       _first_unnamed(unnamed, partition), end)
        first: int | None = None
        ahead: set[int] = set()
        while position < end:
            scan = partition.scan(position, consumer.wants, max_events=STEP, max_scanned=STEP)
            for event in scan.events:
                if event.offset >= end:
                    break
                origin = own if event.origin is None else event.origin
                offset = event.offset if event.origin is None else event.origin_offset
                entry = known.get(origin)
                if (entry[0].is_acked(event, offset, entry[1]) if entry is not None
                        else not any(is_behind(want, event) for want in begins.get(origin, ()))):
                    if first is not None and len(ahead) < AHEAD_MAX:
                        ahead.add(event.offset)
                elif first is None:
                    first = event.offset
            position = scan.next_offset
            yield
        placed.append((partition, end if first is None else first, ahead, end))
    consumer.seek({partition: start for partition, start, _, _ in placed})
    for partition, _, ahead, end in placed:
        cursor = consumer.cursors.get(partition)
        if cursor is not None:
            cursor.ahead = ahead
            cursor.repeats_below = end              # it may have been delivered over there


def _first_unknown(router: Router, known: dict[OriginPartition, tuple[Position, set[int]]], own: OriginPartition,
                   partition: Partition) -> int:
    """From where on this partition may have events that the old node did not have yet, whatever their time."""
    replicas = router.replicas
    for origin, flow in replicas.flows():
        entry = known.get(origin)
        if entry is not None and (entry[0].missing or replicas.reach(origin, flow) > entry[0].next):
            return partition.start_offset
    return max(known[own][0].lowest, partition.start_offset) if own in known else partition.end_offset


def _first_unnamed(begins: list[Want], partition: Partition) -> int:
    """From where on this partition may have events of partitions that the old node never had anything of."""
    return min((partition.offset_for_time(want.since_ms) if want.since == BY_TIME else partition.start_offset
                for want in begins), default=partition.end_offset)
