"""Timetable: the deliveries of one consumer that something happens to at a time: ack timeouts, delayed redelivery."""
from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from routing.cursor import Cursor, Delivery

KEPT = 256                  # entries of events already acked that may stay in memory


class Timetable:
    """A heap. An entry whose delivery was settled meanwhile, or has another time now, counts for nothing."""

    __slots__ = ("_entries", "_sequence")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Cursor, Delivery]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, due_s: float, cursor: Cursor, delivery: Delivery, *, in_flight: int) -> None:
        """in_flight: deliveries that may have an entry; when there are many more, most of them are acked."""
        delivery.deadline_s = due_s
        self._sequence += 1
        heappush(self._entries, (due_s, self._sequence, cursor, delivery))
        if len(self._entries) > 2 * in_flight + KEPT:
            self._entries = [
                entry for entry in self._entries
                if entry[3] is entry[2].in_flight.get(entry[3].event.offset)
                or entry[3] is entry[2].delayed.get(entry[3].event.offset)
            ]
            heapify(self._entries)

    def due(self, now_s: float) -> Iterator[tuple[Cursor, Delivery]]:
        """Take out what is due, the earliest first. Entries may be added meanwhile."""
        while self._entries and self._entries[0][0] <= now_s:
            _, _, cursor, delivery = heappop(self._entries)
            yield cursor, delivery

    def clear(self) -> None:
        self._entries.clear()
