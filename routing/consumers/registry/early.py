"""Early: what clients publish is offered to queues at the end of the turn, while the disk writes it. delivery/early.py.

    Router.publish ──► published() ──► run(), behind the kick of the commit ──► members of queues
    the log ──► committed(), refused()

Only what follows what is on disk, or was offered early itself, without a gap: of what stands between, such as a dead
letter or a batch of a Kafka producer, a queue may want something, which then comes first. Events of other nodes, dead
letters and what transactions publish are no clients' here: they are published again after a loss of power, and would
come twice without a mark.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from routing.consumers.consumer import Consumer
from routing.consumers.delivery import early
from routing.event import Event, topic_runs

if TYPE_CHECKING:
    from routing.log.partition import Partition

log = logging.getLogger(__name__)

EARLY_TURN_S = 0.004        # of one turn; the rest is delivered when it is on disk


class Early:
    """Of one registry."""

    def __init__(self, clock_s: Callable[[], float], clock_ms: Callable[[], int],
                 readers_of: Callable[[str], Sequence[Consumer]]) -> None:
        """readers_of(topic): those who want its events."""
        self.members = 0                                # attached ones that take events early: without any it rests
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._readers_of = readers_of
        self._published: list[tuple[Partition, list[Event]]] = []
        self._offered_to: dict[Partition, int] = {}     # without a gap, from the end of what may be read on
        self._out: dict[Partition, dict[Consumer, int]] = {}        # who has given out something of it, or has places
                                                                    # in it that are not on disk: up to which

    def published(self, partition: Partition, events: list[Event]) -> None:
        """A client's, appended in this turn."""
        self._published.append((partition, events))

    def run(self) -> None:
        """Called at the end of a turn."""
        if not self._published:
            return
        published, self._published = self._published, []
        until_s = self._clock_s() + EARLY_TURN_S
        for partition, events in published:
            first, end_offset = events[0].offset, partition.end_offset
            if first < 0 or first > max(end_offset, self._offered_to.get(partition, 0)):
                continue                                # refused, or behind a gap
            if first < end_offset:
                events = [event for event in events if event.offset >= end_offset]
                if not events:
                    continue
            if self._clock_s() >= until_s:
                break
            self._offered_to[partition] = events[-1].offset + 1
            for run in topic_runs(events):
                self._offer(partition, run)

    def _offer(self, partition: Partition, run: list[Event]) -> None:
        for consumer in self._readers_of(run[0].topic):
            if consumer.side is None:
                continue
            try:
                early.offer(consumer, partition, run, self._clock_ms)
            except Exception:
                log.exception("queue %s: a fault of ours while it gives out events early", consumer.name)
            cursor = consumer.cursors.get(partition)
            if cursor is not None and cursor.unsynced:
                self._out.setdefault(partition, {}).setdefault(consumer, 0)

    def passed(self, consumer: Consumer, partition: Partition) -> None:
        """It reads on, or a filter or binding of it counts, from behind what was published until now, on disk or not.
        If that never comes there, what gets its offsets is new to it.
        """
        if partition.next_offset > partition.high_watermark:
            self._out.setdefault(partition, {})[consumer] = partition.next_offset

    def committed(self, partition: Partition, until: int) -> None:
        """What stands before until is on disk and was offered: what queues have given out of it is theirs now."""
        out = self._out.get(partition)
        if out is None:
            return
        for consumer in list(out):
            cursor = consumer.cursors.get(partition)
            if cursor is not None and cursor.unsynced:
                early.synced(consumer, cursor, until)
            if cursor is None or not (cursor.unsynced or out[consumer] > partition.high_watermark):
                del out[consumer]
        if not out:
            del self._out[partition]

    def refused(self, partition: Partition) -> None:
        """What waited for the disk does not come there."""
        self._published = [entry for entry in self._published if entry[0] is not partition]
        self._offered_to.pop(partition, None)
        for consumer in self._out.pop(partition, ()):
            cursor = consumer.cursors.get(partition)
            if cursor is not None:
                early.refused(consumer, cursor)
                consumer.places_end(partition)
                if cursor.unsynced:
                    self._out.setdefault(partition, {}).setdefault(consumer, 0)
