"""One heap of timers for a server: waits of Fetch, sessions of members, rebalances, logins that end. Sans-IO.

A timer that is cancelled stays in the heap until it is due, or until most of the heap is such timers.
"""
from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

CANCELLED_MIN = 1_000       # are left where they are


class Timer:
    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call


class Timers:
    """Loop thread only."""

    __slots__ = ("_cancelled", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def call_at(self, due_s: float, call: Callable[[], None]) -> Timer:
        """due_s: monotonic seconds; run() is asked every 50 ms."""
        self._number += 1
        timer = Timer(call)
        heappush(self._heap, (due_s, self._number, timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        if timer is None or timer.call is None:
            return
        timer.call = None
        self._cancelled += 1
        if self._cancelled > max(CANCELLED_MIN, len(self._heap) // 2):
            self._cancelled = 0
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapify(self._heap)

    def run(self, now_s: float) -> None:
        """Call what is due."""
        while self._heap and self._heap[0][0] <= now_s:
            timer = heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()
