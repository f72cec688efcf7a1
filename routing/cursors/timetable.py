"""Timetable: the deliveries of one consumer that something happens to at a time: ack timeouts, delayed redelivery."""
from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from routing.cursors.cursor import Cursor, Delivery

DUE_PER_TURN = 500          # 5 ms at the worst; the rest with the next tick
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
            counts = {                                      # by delivery: it may have been given the same time again
                id(entry[3]): entry for entry in self._entries
                if entry[0] == entry[3].deadline_s and (    # else it was given another time
                    entry[3] is entry[2].in_flight.get(entry[3].event.offset)
                    or entry[3] is entry[2].delayed.get(entry[3].event.offset))
            }
            self._entries = list(counts.values())
            heapify(self._entries)

    def due(self, now_s: float) -> Iterator[tuple[Cursor, Delivery]]:
        """Take out what is due, the earliest first, as much as one turn takes. Entries may be added meanwhile."""
        for _ in range(DUE_PER_TURN):
            if not self._entries or self._entries[0][0] > now_s:
                break
            due_s, _, cursor, delivery = heappop(self._entries)
            if due_s == delivery.deadline_s:
                yield cursor, delivery

    @property
    def next_s(self) -> float | None:
        """When something is due next."""
        return self._entries[0][0] if self._entries else None

    def clear(self) -> None:
        self._entries.clear()
