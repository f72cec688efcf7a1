"""A flow of replicas at its destination: its floor, its positions, what waits, and the form in which it is stored.

Used by replicas.py. See there for what floors and positions mean.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from routing.errors import Refusal
from routing.event import Event, OriginPartition

if TYPE_CHECKING:
    from routing.log.partition import Partition

STATE_PREFIX = "replica/"
ENDS_KEY = "replica-ends"   # stream, partition, offset up to which the stored marks of all flows are complete
SCAN_STEP = 8_192

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


class Batch:
    """A published batch: what it waits for."""

    __slots__ = ("done", "next_offset", "waiting")

    def __init__(self, next_offset: int, done: Done) -> None:
        self.next_offset = next_offset
        self.done = done
        self.waiting = 1


class Flow:
    """One flow at its destination."""

    __slots__ = ("batches", "broken", "dirty", "events", "floor", "flow", "marks", "note", "origin", "outstanding",
                 "positions", "repeats")

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
        self.events = 0
        self.repeats = 0

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
