"""Debts: what queues still owe to readers from segments whose time is over. Retention leaves it.

For each partition that has sealed segments, or keeps events of old ones, the lowest place that a queue has not settled
is worked out, some queues at a time, and told to the partition (owed_from). Where retention would take more than that,
it asks (kept.asked_below) and is told exactly what is owed there: that is lifted out of the old segments, and they go
(routing/log/kept). A partition whose events go straight to queues keeps nothing else: its retention is settled by its
queues, so that the disk comes back after acks.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from routing.queues.owed.owing import Owing, Want

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor
    from routing.log.partition import Partition
    from routing.queues.queue import Queue

EVERY_S = 1.0               # between two passes
STEP_QUEUES = 1_000         # looked at in one tick: some 2 ms
STEP_PLACES = 20_000        # unacked events of those that are asked about, in one tick: some 2 ms


def owed_from(cursor: Cursor) -> int | None:
    """The first offset that is not settled. None: all that is committed is."""
    found = [table_first.event.offset for table in (cursor.again, cursor.delayed)
             if (table_first := table.first()) is not None]
    if cursor.in_flight:
        found.append(min(cursor.in_flight))
    if cursor.early:
        found.append(min(cursor.early))
    if cursor.waiting:
        found.append(cursor.waiting[0].offset)
    elif cursor.behind:
        found.append(cursor.position)
    return min(found, default=None)


def tell(owed: Owing, consumer: Consumer, cursor: Cursor, queue: Queue) -> int:
    """Add what a queue owes of a partition. Returns about how many places that were."""
    for table in (cursor.in_flight, cursor.again, cursor.delayed, cursor.early):
        owed.add_offsets(table)
    owed.add_offsets([event.offset for event in cursor.waiting])
    cost = cursor.held()
    if cursor.behind and cursor.position < owed.below:
        done = frozenset(cursor.ahead | cursor.passed_by)
        cost += len(done)
        for pattern in consumer.interest.patterns:
            owed.add_want(pattern, Want(cursor.position, done, queue.bindings.takers(pattern)))
            cost += 1
    return cost


class Debts:
    """Of all queues."""

    def __init__(self, partitions: Callable[[], Iterable[Partition]], queues: Callable[[], Iterable[Queue]]) -> None:
        self._partitions = partitions
        self._queues = queues
        self._floors: dict[Partition, int] = {}         # of the pass that is under way
        self._owed: dict[Partition, Owing] = {}          # what is asked about, of the pass that is under way
        self._left: Iterator[Queue] | None = None
        self._next_s = 0.0

    def started(self) -> None:
        """There are queues now: nothing goes before the next pass is over."""
        for partition in self._partitions():
            partition.owed_from = partition.lowest_offset

    def tick(self, now_s: float) -> None:
        if self._left is None:
            if now_s < self._next_s:
                return
            self._next_s = now_s + EVERY_S
            self._floors = {partition: partition.end_offset for partition in self._partitions()
                            if partition.segment_count > 1 or partition.kept.segments}
            self._owed = {partition: Owing(below) for partition in self._floors
                          if (below := partition.kept.asked_below) is not None}
            queues = any(True for _ in self._queues())
            for partition in self._partitions():
                if partition not in self._floors:       # nothing could go now, nor before the next pass
                    partition.owed_from = partition.lowest_offset if queues else None
            if not self._floors:
                return
            self._left = iter(list(self._queues()))
        places = 0
        for number, queue in enumerate(self._left):
            places += self._look_at(queue)
            if number >= STEP_QUEUES or places >= STEP_PLACES:
                return
        self._left = None
        for partition, floor in self._floors.items():
            partition.owed_from = floor
        for partition, owed in self._owed.items():
            partition.lift(owed)
        self._owed = {}

    def _look_at(self, queue: Queue) -> int:
        if queue.is_deleted:
            return 0
        places = 0
        for partition, cursor in queue.consumer.cursors.items():
            floor = self._floors.get(partition)
            if floor is None:
                continue
            owed = owed_from(cursor)
            if owed is None:
                continue
            if owed < floor:
                self._floors[partition] = max(owed, partition.lowest_offset)    # what was trimmed is gone
            asked = self._owed.get(partition)
            if asked is not None and owed < asked.below:
                places += tell(asked, queue.consumer, cursor, queue)
        return places
