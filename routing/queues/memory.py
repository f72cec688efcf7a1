"""Memory: what a queue has of events that no stream captures. The part of a Partition that a cursor needs, in memory.

Temporary queues and replies live here: nothing of it is stored, and it is bounded. Each event is a copy, since its
place is the queue's own. What is delivered stays with its cursor, so only what waits behind the cursor stands here.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from copy import copy

from routing.event import Event, event_size_bytes
from routing.log.contents import Scan
from routing.log.tally import Tally
from routing.ticket import Ticket

MEMORY = "$memory"          # the name of its stream


class Memory:
    """Offsets count from 0. Everything that is appended is committed."""

    rewrites = 0
    index = -1
    stream = MEMORY

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.end_offset = 0
        self.bytes = 0                                  # of what stands here
        self._clock_ms = clock_ms
        self._events: deque[Event] = deque()

    @property
    def start_offset(self) -> int:
        return self.end_offset - len(self._events)

    @property
    def high_watermark(self) -> int:
        return self.next_offset

    @property
    def next_offset(self) -> int:
        return self.end_offset

    def append(self, events: list[Event], room_bytes: int) -> list[Event]:
        """Take as many as there is room for. Returns the copies."""
        kept: list[Event] = []
        for event in events:
            size = event_size_bytes(event)
            if size > room_bytes:
                break
            room_bytes -= size
            one = copy(event)
            one.partition, one.offset = self, self.end_offset
            one.timestamp_ms = one.timestamp_ms or self._clock_ms()
            self.end_offset += 1
            self.bytes += size
            kept.append(one)
        self._events += kept
        return kept

    def forget(self, until: int) -> None:
        """What stands before this offset is in the cursor, or done."""
        while self._events and self._events[0].offset < until:
            self.bytes -= event_size_bytes(self._events.popleft())

    def join(self, ticket: Ticket) -> None:
        """Nothing waits to be committed."""

    def event(self, offset: int) -> Event | None:
        index = offset - self.start_offset
        return self._events[index] if 0 <= index < len(self._events) else None

    def scan(self, offset: int, wanted: Callable[[str], bool], *, max_events: int, max_scanned: int,
             patterns: Collection[str] | None = None, may_wait: bool = False) -> Scan:
        """As Partition.scan(); all of it is wanted."""
        offset = max(offset, self.start_offset)
        first = offset - self.start_offset
        last = min(first + max_events, first + max_scanned, len(self._events))
        found = [self._events[index] for index in range(first, last)]
        return Scan(found, offset + len(found), len(found))

    def tally(self, offset: int, *, until: int, max_scanned: int, patterns: Collection[str] | None = None) -> Tally:
        raise AssertionError("what is in memory is always counted")
