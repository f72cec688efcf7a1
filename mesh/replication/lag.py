"""Lag of one destination in one of our partitions: how many events it wants and has not confirmed, and since when.

The log is counted in steps, kept as chunks, so that a count of millions costs each event once, and only while somebody
looks. The first chunk is counted again where the destination has confirmed a part of it.
"""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.replication.filters import END, Selection

if TYPE_CHECKING:
    from routing.log.partition import Partition

STEP: Final = 2_048             # records looked at at a time


class Lag(msgspec.Struct, frozen=True):
    """events, and the age of the first of them. exact False: more of the log is still to be counted."""

    events: int
    seconds: float
    exact: bool

    def __add__(self, other: Lag) -> Lag:
        """Of both together: the oldest event counts."""
        return Lag(self.events + other.events, max(self.seconds, other.seconds), self.exact and other.exact)


class Chunk(msgspec.Struct):
    start: int
    next: int
    events: int
    first_ms: int               # 0: none


class Counter:
    """Wanted own events of a partition from a position on, which only rises."""

    __slots__ = ("_chunks", "_partition", "_selection", "counted_to", "start")

    def __init__(self, partition: Partition, selection: Selection, position: int) -> None:
        self._partition = partition
        self._selection = selection
        self._chunks: deque[Chunk] = deque()
        self.start = position                   # where it was last told to begin
        self.counted_to = position

    def is_for(self, selection: Selection) -> bool:
        return selection is self._selection

    def advance(self, position: int) -> None:
        """What lies before position does not count any more."""
        self.start = position
        chunks = self._chunks
        while chunks and chunks[0].next <= position:
            chunks.popleft()
        if chunks and chunks[0].start < position:
            stop = chunks.popleft().next
            chunks.appendleft(self._count(position, stop))
        self.counted_to = max(self.counted_to, position)

    def step(self, until: int = END) -> int:
        """Count a little more of the log, not beyond until. Returns how much was looked at, 0 when there is no more."""
        until = min(until, self._partition.end_offset)
        if self.counted_to >= until:
            return 0
        before = self.counted_to
        chunk = self._count(before, min(before + STEP, until))
        if self._chunks and self._chunks[-1].next - self._chunks[-1].start < STEP:
            last = self._chunks[-1]             # many small commits make one chunk
            last.next = chunk.next
            last.events += chunk.events
            last.first_ms = last.first_ms or chunk.first_ms
        else:
            self._chunks.append(chunk)
        self.counted_to = chunk.next
        return chunk.next - before

    def _count(self, start: int, stop: int) -> Chunk:
        found = self._partition.scan(
            start, lambda topic: self._selection.wants_from(topic, start), max_events=STEP, max_scanned=stop - start)
        wanted = [
            event for event in found.events
            if event.origin is None and event.offset < stop and self._selection.wants_event(event.topic, event.offset)]
        return Chunk(start, min(max(found.next_offset, start + 1), stop) if found.next_offset < stop else stop,
                     len(wanted), wanted[0].timestamp_ms if wanted else 0)

    @property
    def events(self) -> int:
        return sum(chunk.events for chunk in self._chunks)

    @property
    def first_ms(self) -> int:
        return next((chunk.first_ms for chunk in self._chunks if chunk.first_ms), 0)

    def lag(self, now_ms: int) -> Lag:
        events, first_ms = self.events, self.first_ms
        seconds = max(0, now_ms - first_ms) / 1000 if first_ms else 0.0
        return Lag(events, seconds, self.counted_to >= self._partition.end_offset)
