"""Priorities of events in one queue: those above 0 go out before everything else, the highest first.

    0 ──► the cursor, as in any queue          1..max ──► early: place and priority in a heap, read when its turn comes

What comes back has its priority still, and goes before others of the same one, in the old order.

What went early is left out when the cursor comes to its place. At most EARLY_MAX wait early; from there on the log is
looked through for more as soon as there is room. A kill loses no event and no answer; the order by priority comes back
as the log is looked through again.
"""
from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from routing.cursors.delivery import Delivery

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor
    from routing.event import Event
    from routing.log.partition import Partition

EARLY_MAX = 20_000          # of one queue: some 2 MB
STEP_SCANNED = 512          # records looked through in one turn


RETURNED = 1 << 62          # taken off the number of what comes back, which is its offset: before all others


class _Returns:
    """Hears of what comes back to one cursor (routing/cursors/returned.py)."""

    __slots__ = ("_cursor", "_priorities")

    def __init__(self, priorities: Priorities, cursor: Cursor) -> None:
        self._priorities = priorities
        self._cursor = cursor

    def arrived(self, offset: int) -> None:
        self._priorities.returned(self._cursor, offset)


class Priorities:
    __slots__ = ("_consumer", "_from", "_heap", "_heard", "_max", "_number")

    def __init__(self, consumer: Consumer, highest: int) -> None:
        self._consumer = consumer
        self._max = highest
        # -priority, number, another one that no other entry has, cursor, offset; stale ones, too
        self._heap: list[tuple[int, int, int, Cursor, int]] = []
        self._number = 0
        self._heard: dict[Cursor, None] = {}            # cursors of which we hear what comes back
        self._from: dict[Partition, int] = {}           # from here on the log is still to be looked through

    def __len__(self) -> int:
        return sum(len(cursor.early) for cursor in self._consumer.cursors.values())

    def _priority(self, event: Event) -> int:
        found = event.properties.priority if event.properties is not None else None
        return min(found, self._max) if found is not None else 0

    def sift(self, cursor: Cursor, events: list[Event]) -> list[Event]:
        """These were just committed. Takes those that go early; returns the others."""
        if cursor.partition in self._from:              # they are found when their turn comes
            return events
        others = []
        for number, event in enumerate(events):
            priority = self._priority(event)
            if not priority:
                others.append(event)
            elif len(self._heap) >= EARLY_MAX:
                self._from[cursor.partition] = event.offset
                return others + events[number:]
            else:
                self._take(cursor, event.offset, priority)
        return others

    def _take(self, cursor: Cursor, offset: int, priority: int) -> None:
        cursor.early[offset] = priority
        cursor.again.tell(offset)
        cursor.passed_by.add(offset)
        self._number += 1
        heappush(self._heap, (-priority, self._number, self._number, cursor, offset))

    def returned(self, cursor: Cursor, offset: int) -> None:
        """It is to be delivered again, or went early."""
        delivery = cursor.again.get(offset)
        event = None if delivery is None else cursor.event(offset) if delivery.is_bare else delivery.event
        priority = self._priority(event) if event is not None else 0
        if priority:
            self._number += 1
            heappush(self._heap, (-priority, offset - RETURNED, self._number, cursor, offset))

    def _hear(self) -> None:
        """Of cursors that are new; those of streams that are gone are forgotten."""
        there = set(self._consumer.cursors.values())
        for cursor in [cursor for cursor in self._heard if cursor not in there]:
            del self._heard[cursor]
        for cursor in self._consumer.cursors.values():
            if cursor not in self._heard:
                self._heard[cursor] = None
                cursor.again.listeners.append(_Returns(self, cursor))
                for offset in cursor.again:
                    self.returned(cursor, offset)

    def step(self) -> None:
        """Look through some more of the log, where there is room."""
        cursors = self._consumer.cursors
        if len(self._heard) != len(cursors) or any(cursor not in self._heard for cursor in cursors.values()):
            self._hear()
        for partition, offset in list(self._from.items()):
            cursor = self._consumer.cursors.get(partition)
            if cursor is None or offset >= partition.end_offset:
                del self._from[partition]
                continue
            if len(self._heap) >= EARLY_MAX:
                return
            interest = self._consumer.interest
            offset = max(offset, cursor.next_wanted)
            found = cursor.scan(offset, interest.wants, max_events=STEP_SCANNED, max_scanned=STEP_SCANNED,
                                patterns=interest.patterns, may_wait=True)
            gone: set[int] = set()
            for event in found.events:
                priority = self._priority(event)
                if priority and event.offset not in cursor.ahead and interest.wants_event(event):
                    self._take(cursor, event.offset, priority)
                    gone.add(event.offset)
                    if event.offset >= cursor.position and cursor.backlog.counted_to > event.offset:
                        cursor.backlog.events -= 1
            cursor.drop_waiting(lambda event, gone=gone: event.offset in gone)      # type: ignore[misc]
            self._from[partition] = found.next_offset
            self._consumer.ready()
            return

    def restored(self) -> None:
        for cursor in self._consumer.cursors.values():
            for offset, delivery in list(cursor.again.items()):
                priority = self._priority(delivery.event)
                if priority and delivery.attempts == 1:     # it went early, and was not delivered
                    del cursor.again[offset]
                    self._take(cursor, offset, priority)
            if cursor.behind:
                self._from[cursor.partition] = cursor.position

    def _entries(self) -> Iterator[tuple[Cursor, int, int]]:
        """Take them out, the highest first: cursor, offset, attempts."""
        limit = self._consumer.spec.max_deliveries
        while self._heap:
            _, number, _, cursor, offset = heappop(self._heap)
            if number >= 0:
                if cursor.early.pop(offset, None) is not None:
                    yield cursor, offset, 1
            elif offset in cursor.again and (limit is None or cursor.again[offset].attempts <= limit):
                delivery = cursor.again.take(offset)    # beyond the limit it is seen to like any other: handout.py
                assert delivery is not None
                self._consumer.redelivered += 1
                yield cursor, offset, delivery.attempts

    def next(self) -> tuple[Cursor, Delivery] | None:
        """Take out the first one."""
        for cursor, offset, attempts in self._entries():
            event = cursor.event(offset)
            if event is not None:
                return cursor, Delivery(event, attempts)
        return None

    def hand_out(self) -> None:
        """Give them to members while there is credit."""
        consumer = self._consumer
        while self._heap and consumer.room() > 0:
            member = consumer.members.next()
            if member is None:
                return
            first = self.next()
            if first is None:
                return
            cursor, delivery = first
            delivery.member = member
            consumer.send(cursor, member, [delivery], len(delivery.event.payload))

    def last(self) -> tuple[Cursor, Delivery] | None:
        """Take out the one that would go last: the oldest of the lowest priority."""
        there = [entry for entry in self._heap if entry[4] in entry[3].early]
        if not there:
            return None
        lowest = max(entry[0] for entry in there)
        _, _, _, cursor, offset = min((entry for entry in there if entry[0] == lowest), key=lambda entry: entry[1])
        del cursor.early[offset]
        event = cursor.event(offset)
        return (cursor, Delivery(event)) if event is not None else self.last()

    def events(self, limit: int) -> list[Event]:
        """The first of them, which stay."""
        there = sorted((entry for entry in self._heap if entry[4] in entry[3].early), key=lambda entry: entry[:2])
        found = [cursor.event(offset) for _, _, _, cursor, offset in there[:limit]]
        return [event for event in found if event is not None]

    def clear(self) -> None:
        self._heap.clear()
        self._from.clear()
        for cursor in self._consumer.cursors.values():
            cursor.early.clear()
