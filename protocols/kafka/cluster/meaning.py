"""Meaning: what a committed offset of one node says about the log of another.

The same events stand at other offsets there, and in another order where several nodes write. So the leader says of an
offset up to where in the log of each origin everything before it reaches; and who takes over begins at the first event
that is not among those:

    leader     own events: exactly the offset.  Those of others: as was seen when its log ended before there, or
               as what stands near the offset says
    follower   first_unread(): nothing that the group has not read stands before it. Behind it there may be what it has

So nothing is lost, and what is read twice is bounded by how far the two logs are in another order.
"""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from routing.event import OriginPartition

if TYPE_CHECKING:
    from protocols.peers import Peers
    from routing.log.partition import Partition
    from routing.router import Router

SAMPLES_MAX: Final = 240        # of one partition; of more every other goes
STEP: Final = 1_024             # events looked at in one turn
LOOK_BACK: Final = 64           # runs of batches, or events, before an offset

Places = dict[OriginPartition, int]


def own_origin(peers: Peers, partition: Partition) -> OriginPartition:
    """What a partition of this node is to other nodes."""
    return OriginPartition(peers.me, peers.epoch, partition.origin_name, partition.index)


class Samples:
    """Of the leader's partitions: how much of other nodes stood in them when they ended where. Loop thread only."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._ends: dict[Partition, list[int]] = {}
        self._reached: dict[Partition, list[Places]] = {}

    def take(self, partitions: set[Partition]) -> Iterator[None]:
        """Once a second, in steps: what was there when it was looked is there when the end is noted."""
        for partition in [known for known in self._ends if known not in partitions]:
            del self._ends[partition], self._reached[partition]
        seen: dict[Partition, Places] = {}
        yield from self._router.replicas.reached(partitions, seen)
        for count, partition in enumerate(partitions, 1):
            ends = self._ends.setdefault(partition, [])
            reached = self._reached.setdefault(partition, [])
            now = seen.get(partition, {})
            if not reached or reached[-1] != now:
                ends.append(partition.end_offset)
                reached.append(now)
                if len(ends) > SAMPLES_MAX:
                    del ends[1::2], reached[1::2]
            if count % STEP == 0:
                yield

    def before(self, partition: Partition, offset: int) -> Places:
        """Of other nodes at least so much stands before the offset, as far as that was seen."""
        index = bisect_right(self._ends.get(partition, ()), offset) - 1
        return self._reached[partition][index] if index >= 0 else {}


def at_least_before(partition: Partition, offset: int) -> Places:
    """Of other nodes at least so much stands before the offset, as what is near it says."""
    found: Places = {}
    for span in partition.origins.before(offset, LOOK_BACK):
        if not span.flow:
            found.setdefault(span.origin, span.there + min(offset, span.next) - span.first)
    if offset and partition.origins.at(offset - 1) is None:
        scan = partition.scan(max(offset - LOOK_BACK, partition.start_offset), lambda topic: True,
                              max_events=LOOK_BACK, max_scanned=LOOK_BACK)
        for event in scan.events:
            if event.offset < offset and event.origin is not None and not event.flow:
                found[event.origin] = max(found.get(event.origin, 0), event.origin_offset + 1)
    return found


def first_unread(partition: Partition, own: OriginPartition, reached: Mapping[OriginPartition, int],
                 found: list[int]) -> Iterator[None]:
    """Put into found where the first event stands of which that does not say that it was read; a step each time."""
    position = partition.start_offset
    while position < partition.end_offset:
        span = partition.origins.at(position)
        if span is not None:
            read = span.first + reached.get(span.origin, 0) - span.there if not span.flow else 0
            if read < span.next:
                position = max(position, read)
                break
            position = span.next
            continue
        until = min(partition.origins.next_first(position), partition.end_offset)
        scan = partition.scan(position, lambda topic: True, max_events=STEP, max_scanned=STEP)
        unread = next((event.offset for event in scan.events if event.offset < until and (
            event.flow or (event.origin or own) not in reached
            or (event.offset if event.origin is None else event.origin_offset) >= reached[event.origin or own])), None)
        if unread is not None:
            position = unread
            break
        position = min(max(scan.next_offset, position + 1), until)
        yield
    found.append(max(position, partition.start_offset))
