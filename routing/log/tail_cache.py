"""The newest committed events of a partition, decoded, so that readers at the tail touch no disk.

Used by partition.py. Bounded by bytes, of all partitions together, of which one has at most a quarter: a busy one would
take the memory of the others, and touch fresh memory for each event, which costs more than what it would keep is worth.
Whole commit groups leave at the old end. What a cache holds is always one run of offsets that ends at the committed
end.
"""
from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

from routing.event import Event

EVENT_OVERHEAD_BYTES = 200      # of one decoded event beside its bytes on disk; measured with tracemalloc
PARTITIONS_MIN = 4              # among which the budget is divided
STALE_MAX = 1_024


class TailBudget:
    """What the caches of all partitions may take together. The group that is oldest of all leaves first."""

    __slots__ = ("_bytes", "_bytes_max", "_count", "_groups", "share_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.share_bytes = bytes_max // PARTITIONS_MIN
        self._bytes = 0
        self._count = 0                                         # groups that are there
        self._groups: deque[tuple[TailCache, int]] = deque()    # in the order of commits: cache, first offset

    @property
    def bytes(self) -> int:
        return self._bytes

    def take(self, cache: TailCache, first_offset: int, size: int) -> None:
        self._groups.append((cache, first_offset))
        self._bytes += size
        self._count += 1
        while self._bytes > self._bytes_max and self._groups:
            oldest, offset = self._groups.popleft()
            oldest.drop_group(offset)                   # which gives back what it took, if it is there still

    def give(self, size: int) -> None:
        """A group has left."""
        self._bytes -= size
        self._count -= 1
        if len(self._groups) > 2 * self._count + STALE_MAX:     # retention took most of them
            self._groups = deque(entry for entry in self._groups if entry[1] >= entry[0].first_offset)


class TailCache:
    __slots__ = ("_budget", "_bytes", "_end_offset", "_groups", "first_offset")

    def __init__(self, budget: TailBudget, first_offset: int) -> None:
        self._budget = budget
        self._bytes = 0
        self._end_offset = first_offset
        self._groups: deque[tuple[int, list[Event], int]] = deque()    # first offset, events, bytes
        self.first_offset = first_offset        # nothing before it is here; the end is the partition's

    @property
    def bytes(self) -> int:
        return self._bytes

    def is_leaving(self, offset: int) -> bool:
        """What stands there has left, or will before long: the cache is half full, and it is in the older half."""
        if offset < self.first_offset:
            return True
        return 2 * self._bytes > self._budget.share_bytes and 2 * offset < self.first_offset + self._end_offset

    def add(self, events: list[Event], plain_bytes: int, end_offset: int) -> None:
        """The events of one commit, in order, which reach up to end_offset. plain_bytes: not compressed."""
        self._end_offset = end_offset
        if events:
            size = plain_bytes + len(events) * EVENT_OVERHEAD_BYTES
            self._groups.append((events[0].offset, events, size))
            self._bytes += size
            self._budget.take(self, events[0].offset, size)
            while self._bytes > self._budget.share_bytes and len(self._groups) > 1:
                self._leave()

    def skip(self, end_offset: int) -> None:
        """What was committed up to end_offset is not kept: forget everything before it."""
        self._end_offset = end_offset
        while self._groups:
            self._leave()
        self.first_offset = end_offset

    def drop_group(self, first_offset: int) -> None:
        """Forget the oldest group, if it is the one that begins there. For TailBudget."""
        if self._groups and self._groups[0][0] == first_offset:
            self._leave()

    def _leave(self) -> None:
        size = self._groups.popleft()[2]
        self._bytes -= size
        self._budget.give(size)
        self.first_offset = self._groups[0][0] if self._groups else self._end_offset

    def forget(self) -> Iterator[None]:
        """Who reads these reads them from the disk. Work in pieces; what is committed meanwhile stays."""
        for _ in range(len(self._groups)):
            if self._groups:
                self._leave()
            yield

    def drop_before(self, offset: int, end_offset: int) -> None:
        """Forget the groups before offset, where a segment begins, and so a group."""
        self._end_offset = end_offset
        while self._groups and self._groups[0][0] < offset:
            self._leave()

    def groups_from(self, offset: int) -> Iterator[list[Event]]:
        """Lists of events; the first may begin before offset. offset is not before first_offset."""
        groups = self._groups
        if groups and offset >= groups[-1][0]:
            yield groups[-1][1]
        elif groups:
            first = bisect_right(groups, offset, key=lambda group: group[0]) - 1
            for index in range(max(0, first), len(groups)):
                yield groups[index][1]
