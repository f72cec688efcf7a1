"""Backlog: how many events that a consumer wants stand in the log behind the position of one cursor.

    position ── counted ── counted_to ······ not counted yet ······ end of the partition

Counting goes in steps (see counting.py) while the reader moves on: what it takes is subtracted, what it leaves to the
log again is added, and what is committed is added once everything before it is counted. So a number that was exact
once stays so at the price of an addition. A cursor at the tail has no backlog, and nothing is kept up for it.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.log.partition import Partition


class Backlog:
    """Owned by its Cursor; loop thread only."""

    __slots__ = ("_floor", "_rewrites", "counted_to", "epoch", "events", "exact", "first_ms", "looked_to", "owed",
                 "partition")

    def __init__(self, partition: Partition, position: int, *, owed: bool = False) -> None:
        """owed: as of the cursor."""
        self.partition = partition
        self.owed = owed
        self.epoch = 0                          # another one whenever what was counted does not count any more
        self.restart(position)

    def _start_offset(self) -> int:
        return self.partition.lowest_offset if self.owed else self.partition.start_offset

    def restart(self, position: int) -> None:
        """Nothing is known of what stands from position on."""
        self._floor = self._start_offset()
        self._rewrites = self.partition.rewrites
        self.epoch += 1
        position = max(position, self._floor)
        self.events = 0
        self.counted_to = position
        self.exact = position >= self.partition.end_offset
        self.looked_to = position               # no wanted event stands between position and here
        self.first_ms: int | None = None        # append time of the first wanted event

    def begin(self, count: int, position: int, counted_to: int, first_ms: int) -> None:
        """The reader leaves the tail: so many wanted events, the first at position, are left to the log."""
        self.restart(position)
        self.events, self.counted_to, self.exact = count, counted_to, True
        self.first_ms = first_ms

    def check(self, position: int) -> None:
        """Start anew when retention or compaction has taken away what was counted."""
        if self.partition.rewrites != self._rewrites or position < self._start_offset() != self._floor:
            self.restart(position)

    @property
    def is_known(self) -> bool:
        """The count is exact, and so is the age."""
        return self.exact and (self.first_ms is not None or not self.events)

    def committed(self, count: int, first_offset: int, last_offset: int, first_ms: int) -> None:
        """So many wanted events were committed and left to the log."""
        if self.exact and first_offset >= self.counted_to:
            if not self.events:
                self.looked_to, self.first_ms = first_offset, first_ms
            self.events += count
            self.counted_to = last_offset + 1

    def grown(self) -> None:
        """Something was committed behind what is counted, and nobody has looked at it."""
        self.exact = False

    def taken(self, count: int, position: int) -> None:
        """The reader has taken so many wanted events and stands at position now."""
        if position >= self.counted_to and not self.exact:
            self.events = 0
        else:
            self.events = max(self.events - count, 0)
        self.counted_to = max(self.counted_to, position)
        if count or position > self.looked_to:
            self.looked_to, self.first_ms = position, None

    def given_back(self, count: int, position: int, first_ms: int) -> None:
        """The reader has left so many wanted events to the log again, and stands at the first of them now."""
        self.events += count
        self.looked_to, self.first_ms = position, first_ms

    def counted(self, count: int, counted_to: int) -> None:
        """One more piece of the log is counted."""
        self.events += count
        self.counted_to = counted_to
        self.exact = counted_to >= self.partition.end_offset

    def looked(self, looked_to: int, first_ms: int | None) -> None:
        """One more piece of the log was looked at for the first wanted event, and maybe it was found."""
        self.looked_to, self.first_ms = looked_to, first_ms
