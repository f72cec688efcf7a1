"""A flow of replicas at its destination: its floor, its positions, what waits, and the form in which it is stored.

Used by replicas.py. See there for what floors and positions mean.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from routing.errors import Refusal
from routing.event import Event, OriginPartition
from routing.streams.streams import stream_of
from routing.ticket import Part

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.publishing.route import Route

STATE_PREFIX = "replica/"
ENDS_KEY = "replica-ends"   # stream, partition, offset up to which the stored marks of all flows are complete
SCAN_STEP = 8_192
KEPT_MAX = 8                # intervals; what is older was stored long ago
END = 1 << 62

Done: TypeAlias = Callable[[Refusal | None], None]


class Mark(msgspec.Struct, array_like=True, gc=False):
    """The last event of a flow in one partition of ours: where it stands in the log here, and its origin offset."""

    stream: str
    partition: int
    offset: int
    origin_offset: int


class FlowState(msgspec.Struct, array_like=True):
    """What is stored of a flow."""

    origin: OriginPartition
    flow: int
    floor: int | None
    marks: list[Mark]
    note: bytes = b""
    kept: list[tuple[int, int]] = []    # see Flow.kept


class Batch:
    """A published batch: what it waits for."""

    __slots__ = ("done", "next_offset", "waiting")

    def __init__(self, next_offset: int, done: Done) -> None:
        self.next_offset = next_offset
        self.done = done
        self.waiting = 1


class Flow:
    """One flow at its destination."""

    __slots__ = ("batches", "broken", "dirty", "events", "floor", "flow", "kept", "last_part", "marks", "note",
                 "origin", "outstanding", "positions", "repeats", "stored", "stream")

    def __init__(self, origin: OriginPartition, flow: int, floor: int | None) -> None:
        self.origin = origin
        self.flow = flow
        self.floor = floor
        self.positions: dict[Partition, int] = {}       # appended, maybe not committed yet
        self.marks: dict[Partition, tuple[int, int]] = {}       # committed: offset here, origin offset
        self.batches: deque[Batch] = deque()
        self.outstanding = 0                            # commits that have not been answered
        self.broken: Refusal | None = None
        self.dirty = False
        self.note = b""
        self.kept: list[tuple[int, int]] = []           # origin offsets, from and to, that keep their partition's index
        self.stream = stream_of(origin.stream)
        self.last_part: Part | None = None              # of the last batch that was taken in as it is
        self.events = 0
        self.repeats = 0
        self.stored = 0                                 # batches that were taken in as they are

    def keeps(self, offset: int) -> bool:
        """Does the event at this origin offset go to the partition that has the index of the one there?"""
        return any(first <= offset < stop for first, stop in self.kept)

    def keep_from(self, offset: int, *, keeps: bool) -> None:
        """From this origin offset on they do, or do not any more. Nothing of what is behind it may be here yet."""
        self.kept = [(first, min(stop, offset)) for first, stop in self.kept if first < offset][-KEPT_MAX:]
        if keeps:
            self.kept.append((offset, END))

    def place(self, route: Route) -> Partition | None:
        """The partition of events that keep their index; None: they are of another stream here."""
        stream = route.stream
        if stream is None or stream.name != self.stream or self.origin.index >= len(stream.partitions):
            return None
        return stream.partitions[self.origin.index]

    def pieces(self, events: list[Event]) -> Iterator[tuple[list[Event], bool]]:
        """The events in runs that all do or all do not."""
        if not self.kept:
            yield events, False
            return
        for does, run in groupby(events, lambda event: self.keeps(event.origin_offset)):
            yield list(run), does

    @property
    def key(self) -> str:
        return f"{STATE_PREFIX}{self.origin.text}!{self.flow}"


def events_from(partition: Partition, offset: int) -> Iterator[Event]:
    """Every committed event from an offset on."""
    while offset < partition.end_offset:
        found = partition.scan(offset, lambda topic: True, max_events=SCAN_STEP, max_scanned=SCAN_STEP)
        yield from found.events
        offset = found.next_offset


def is_there(partition: Partition, mark: Mark, flow: Flow) -> bool:
    """Is the event of a mark still where it was? What retention or compaction removed counts as there."""
    if mark.offset < partition.start_offset or partition.settings.compact:
        return True
    event = partition.event(mark.offset)
    return event is not None and event.origin == flow.origin and event.origin_offset == mark.origin_offset
