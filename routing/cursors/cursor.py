"""Cursor: how far one consumer has come in one partition.

    start ──acked── floor ······ unacked, in memory ······ position ──not yet read── end of the partition

position is the next offset to take in. What lies below it and is not acked is in exactly one of waiting (not yet
delivered), again (to be delivered once more), delayed (the same, but later) or in_flight (delivered, not acked).
What was delivered before it was on disk is none of its business yet: unsynced.py.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from routing.cursors.backlog import Backlog
from routing.cursors.delivery import Delivery as Delivery
from routing.cursors.returned import Returned, bare
from routing.cursors.unsynced import Unsynced
from routing.event import Event

if TYPE_CHECKING:
    from routing.log.contents import Scan
    from routing.log.partition import Partition


class Cursor:
    """State of one consumer in one partition. Owned by its Consumer; loop thread only."""

    __slots__ = (
        "again", "ahead", "backlog", "behind", "delayed", "early", "in_flight", "owed", "partition",
        "passed_by", "position", "repeats_below", "skipped_to", "tail_stored", "unsynced", "waiting")

    def __init__(self, partition: Partition, position: int, *, owed: bool = False) -> None:
        """owed: of a queue, for which the log keeps what retention takes (routing/log/kept)."""
        self.partition = partition
        self.owed = owed
        self.position = position
        self.behind = position < partition.end_offset
        self.backlog = Backlog(partition, position, owed=owed)          # what of it is wanted, while behind
        self.repeats_below = 0                          # below it an event may have been delivered before a crash
        self.tail_stored = False                        # the stored state says that it has looked at everything
        self.waiting: deque[Event] = deque()
        self.in_flight: dict[int, Delivery] = {}
        self.again = Returned()
        self.delayed = Returned()
        self.ahead: set[int] = set()                    # acked before they were read: a killed node had delivered them

        self.early: dict[int, int] = {}                 # ready, and before its turn: offset → priority
        self.passed_by: set[int] = set()                # taken early: not again when the reader comes there
        self.unsynced: Unsynced | None = None           # delivered before they are on disk
        self.skipped_to = 0                             # below it something was left to be delivered once it is

    # -- what stands in the log -------------------------------------------------------------------------------

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""
        return self.partition.lowest_offset if self.owed else self.partition.start_offset

    def event(self, offset: int) -> Event | None:
        """The committed event at offset, None when there is none (any more)."""
        return self.partition.event(offset, owed=True) if self.owed else self.partition.event(offset)

    def scan(self, offset: int, wanted: Callable[[str], bool], *, max_events: int, max_scanned: int,
             patterns: Collection[str] | None = None, may_wait: bool = False) -> Scan:
        """As Partition.scan()."""
        if self.owed:
            return self.partition.scan(
                offset, wanted, max_events=max_events, max_scanned=max_scanned, patterns=patterns, owed=True,
                may_wait=may_wait)
        return self.partition.scan(offset, wanted, max_events=max_events, max_scanned=max_scanned, patterns=patterns,
                                   may_wait=may_wait)

    # -- where it stands --------------------------------------------------------------------------------------

    @property
    def next_wanted(self) -> int:
        """The first offset that has not been handed out: what waits may be left to the log and be read again."""
        return self.waiting[0].offset if self.waiting else self.position

    def held(self) -> int:
        """Events in memory that are not acked."""
        return len(self.early) + len(self.waiting) + len(self.in_flight) + len(self.again) + len(self.delayed)

    def leave(self, events: Sequence[Event]) -> None:
        """Leave these wanted events, the last that were taken or offered, to the log: the first is read next."""
        first, last = events[0], events[-1]
        if self.behind:
            self.backlog.given_back(len(events), first.offset, first.timestamp_ms)
        else:
            self.backlog.begin(len(events), first.offset, max(self.position, last.offset + 1), first.timestamp_ms)
        self.position = first.offset
        self.behind = True

    def first_unacked(self) -> Event | None:
        """The earliest unacked event in memory. Cost: the in-flight count."""
        best: Event | None = self.waiting[0] if self.waiting else None
        if not self.in_flight and not self.again and not self.delayed:      # most of many consumers
            return best
        earliest = self.in_flight[min(self.in_flight)] if self.in_flight else None
        for delivery in (earliest, self.again.first(), self.delayed.first()):
            if delivery is not None and (best is None or delivery.event.offset < best.offset):
                best = delivery.event
        return best

    def at_tail(self) -> bool:
        """Everything committed has been looked at and nothing waits to be delivered: the position is the end."""
        return not self.behind and not self.waiting

    def state(self, *, by_key: bool = False) -> tuple[int, dict[int, int]]:
        """What must survive a crash: where to read on, and the unacked offsets below it with how often they went out.

        by_key: later events of other keys may be acked already, so what waits counts as unacked (0 attempts).
        """
        end_offset = self.partition.end_offset
        if by_key:
            position = self.position
        elif self.waiting:
            position = self.waiting[0].offset
        elif self.behind:
            position = self.position
        else:
            position = end_offset
        position = min(position, end_offset)            # a purge goes beyond it: nothing that comes there later is done
        unacked = {offset: delivery.attempts for offset, delivery in self.in_flight.items()}
        for table in (self.again, self.delayed):        # the attempt that is to come has not been made
            unacked.update({offset: delivery.attempts - 1 for offset, delivery in table.items()})
        if by_key:
            unacked.update({event.offset: 0 for event in self.waiting})
        unacked.update(dict.fromkeys(self.early, 0))
        if self.unsynced:                               # on disk by now, and not told yet
            unacked.update({offset: delivery.attempts for offset, delivery in self.unsynced.out.items()
                            if offset < position})
        if self.passed_by:
            self.passed_by = {offset for offset in self.passed_by if offset >= min(position, self.position)}
        if self.ahead:
            self.ahead = {offset for offset in self.ahead if offset >= position}
        return position, unacked

    def returned(self, event: Event, attempts: int, bytes_max: int) -> Delivery:
        """A delivery that is to go out again; beyond so many bytes of them only their places are kept."""
        if self.again.bytes + self.delayed.bytes + len(event.payload) <= bytes_max:
            return Delivery(event, attempts)
        return Delivery(bare(event), attempts, is_bare=True)

    def drop_waiting(self, unwanted: Callable[[Event], bool]) -> None:
        """Forget what has not been delivered and is unwanted."""
        if self.waiting:
            kept = [event for event in self.waiting if not unwanted(event)]
            self.waiting.clear()
            self.waiting.extend(kept)

    def drop(self, unwanted: Callable[[Event], bool]) -> None:
        """Forget what waits, or waits to be delivered again, and is unwanted."""
        self.drop_waiting(unwanted)
        for table in (self.again, self.delayed):
            for offset in [offset for offset, delivery in table.items() if unwanted(delivery.event)]:
                del table[offset]

    def skip_to(self, position: int) -> None:
        """Nothing below is wanted any more, but for what is in flight. It may be beyond what is committed."""
        self.position = max(self.position, position)
        self.behind = self.position < self.partition.end_offset
        self.backlog.restart(self.position)

    def has_passed(self, offset: int) -> bool:
        """Everything below is acked, or in memory: there is nothing left to read."""
        if self.next_wanted >= offset:
            return True
        return not self.behind and not self.waiting and self.partition.end_offset >= offset

    def restart(self, position: int) -> None:
        """Seek: forget everything in memory and read on from position."""
        self.waiting.clear()
        self.in_flight.clear()
        self.again.clear()
        self.delayed.clear()
        self.ahead.clear()
        self.early.clear()
        self.passed_by.clear()
        self.unsynced = None
        self.position = max(position, self.start_offset)
        self.behind = self.position < self.partition.end_offset
        self.backlog.restart(self.position)
        self.repeats_below = 0
