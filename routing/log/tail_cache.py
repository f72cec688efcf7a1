"""The newest committed events of a partition, decoded, so that readers at the tail touch no disk.

Used by partition.py. Bounded by bytes; whole commit groups leave at the old end. What it holds is always one run of
offsets that ends at the committed end.
"""
from __future__ import annotations

from bisect import bisect_right
from collections import deque

from routing.event import Event

EVENT_OVERHEAD_BYTES = 200      # of one decoded event beside its bytes on disk; measured with tracemalloc


class TailCache:
    __slots__ = ("_bytes", "_bytes_max", "_groups", "first_offset")

    def __init__(self, bytes_max: int, first_offset: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._groups: deque[tuple[int, list[Event], int]] = deque()    # first offset, events, bytes
        self.first_offset = first_offset        # nothing before it is here; the end is the partition's

    @property
    def bytes(self) -> int:
        return self._bytes

    def add(self, events: list[Event], disk_bytes: int, end_offset: int) -> None:
        """The events of one commit, in order, which reach up to end_offset."""
        if events:
            size = disk_bytes + len(events) * EVENT_OVERHEAD_BYTES
            self._groups.append((events[0].offset, events, size))
            self._bytes += size
        while self._groups and self._bytes > self._bytes_max:
            self._bytes -= self._groups.popleft()[2]
            self.first_offset = self._groups[0][0] if self._groups else end_offset

    def drop_before(self, offset: int, end_offset: int) -> None:
        """Forget the groups before offset, where a segment begins, and so a group."""
        while self._groups and self._groups[0][0] < offset:
            self._bytes -= self._groups.popleft()[2]
            self.first_offset = self._groups[0][0] if self._groups else end_offset

    def groups_from(self, offset: int) -> list[list[Event]]:
        """Lists of events; the first may begin before offset. offset is not before first_offset."""
        groups = self._groups
        if not groups:
            return []
        if offset >= groups[-1][0]:
            return [groups[-1][1]]
        first = bisect_right(groups, offset, key=lambda group: group[0]) - 1
        return [groups[index][1] for index in range(max(0, first), len(groups))]
