"""Debts: what durable queues still owe to readers from segments whose time is over. Retention leaves it.

For each partition that has sealed segments the lowest place that a durable queue has not settled is worked out, some
queues at a time, and told to the partition (owed_from). A partition whose events go straight to queues keeps nothing
else: its retention is settled by its queues, so that the disk comes back after acks.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.cursors.cursor import Cursor
    from routing.log.partition import Partition
    from routing.queues.queue import Queue

EVERY_S = 1.0               # between two passes
STEP_QUEUES = 1_000         # looked at in one tick: some 2 ms


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


class Debts:
    """Of all queues."""

    def __init__(self, partitions: Callable[[], Iterable[Partition]], queues: Callable[[], Iterable[Queue]],
                 straight: str) -> None:
        """straight: the stream of events that go straight to queues, those that are not durable too."""
        self._straight = straight
        self._partitions = partitions
        self._queues = queues
        self._floors: dict[Partition, int] = {}         # of the pass that is under way
        self._left: Iterator[Queue] | None = None
        self._next_s = 0.0

    def started(self) -> None:
        """Nothing goes before the first pass is over."""
        if any(True for _ in self._queues()):
            for partition in self._partitions():
                partition.owed_from = partition.start_offset

    def tick(self, now_s: float) -> None:
        if self._left is None:
            if now_s < self._next_s:
                return
            self._next_s = now_s + EVERY_S
            self._floors = {partition: partition.end_offset for partition in self._partitions()
                            if partition.segment_count > 1}
            queues = any(True for _ in self._queues())
            for partition in self._partitions():
                if partition not in self._floors:       # nothing could go now, nor before the next pass
                    partition.owed_from = partition.start_offset if queues else None
            if not self._floors:
                return
            self._left = iter(list(self._queues()))
        step = list(islice(self._left, STEP_QUEUES))
        for queue in step:
            self._look_at(queue)
        if len(step) < STEP_QUEUES:
            self._left = None
            for partition, floor in self._floors.items():
                partition.owed_from = floor

    def _look_at(self, queue: Queue) -> None:
        durable = queue.consumer.spec.durable
        for partition, cursor in queue.consumer.cursors.items():
            floor = self._floors.get(partition)
            if floor is not None and (durable or partition.stream == self._straight):
                owed = owed_from(cursor)
                if owed is not None and owed < floor:
                    self._floors[partition] = max(owed, partition.start_offset)     # what was trimmed is gone
