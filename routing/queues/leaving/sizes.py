"""Sizes: the payload bytes of everything in a queue that is not settled, for its limit of bytes.

They are added up as events come and go. After a start those that are in the log already are read once, in steps; until
then the limit of bytes waits.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.event import Event

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor

STEP_SCANNED = 512          # records of one step: some 2 ms where each has a topic of its own


class Sizes:
    """Of one queue. known: everything that was there at the start is counted."""

    __slots__ = ("_consumer", "_left", "bytes")

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._left: list[tuple[Cursor, int, int]] = []       # to be read: from here, to there
        self.bytes = 0

    @property
    def known(self) -> bool:
        return not self._left

    @property
    def ready_bytes(self) -> int:
        return max(self.bytes - self._consumer.in_flight_bytes, 0)

    def offered(self, events: list[Event]) -> None:
        self.bytes += sum([len(event.payload) for event in events])

    def restored(self) -> None:
        """Its cursors stand where they did when the node went away."""
        for cursor in self._consumer.cursors.values():
            self.bytes += sum(len(delivery.event.payload) for delivery in cursor.again.values())
            if cursor.position < cursor.partition.end_offset:
                self._left.append((cursor, cursor.position, cursor.partition.end_offset))

    def step(self) -> None:
        """Read some more of what was there at the start."""
        cursor, offset, end = self._left.pop()
        interest = self._consumer.interest
        found = cursor.scan(offset, interest.wants, max_events=STEP_SCANNED, max_scanned=STEP_SCANNED,
                            patterns=interest.patterns)
        self.bytes += sum(len(event.payload) for event in found.events
                          if event.offset < end and interest.wants_event(event))
        if found.next_offset < end:
            self._left.append((cursor, found.next_offset, end))
