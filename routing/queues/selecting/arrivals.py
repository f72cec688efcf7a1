"""Arrivals: places of one cursor that one member has not looked at, of what came back or is ready before its turn.

A heap of what came since it looked, the smallest first. Where that grows beyond what is worth remembering, everything
that is there counts as new: looking begins again, at the smallest.
"""
from __future__ import annotations

from heapq import heapify, heappop, heappush

from routing.cursors.cursor import Cursor

STALE_MAX = 4_096           # places that are not there any more, or twice, beside as many as there are


class Arrivals:
    """Hears of new places from cursor.again until stop()."""

    __slots__ = ("_added", "_cursor", "_heap", "_is_all")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._heap: list[int] = []
        self._added: set[int] = set()                   # of the heap: what came since it was made
        self._is_all = True                             # the heap is to be made: of all that is there
        cursor.again.listeners.append(self)

    def arrived(self, offset: int) -> None:
        if self._is_all or offset in self._added:
            return
        if len(self._heap) >= len(self._cursor.again) + len(self._cursor.early) + STALE_MAX:
            self._is_all = True
            self._heap = []
            self._added.clear()
            return
        heappush(self._heap, offset)
        self._added.add(offset)

    def next(self) -> int | None:
        """Take out the smallest. It may not be there any more."""
        if self._is_all:
            self._is_all = False
            self._heap = [*self._cursor.again, *self._cursor.early]
            heapify(self._heap)
        if not self._heap:
            return None
        offset = heappop(self._heap)
        self._added.discard(offset)
        return offset

    def stop(self) -> None:
        again = self._cursor.again
        again.listeners = [one for one in again.listeners if one is not self]
