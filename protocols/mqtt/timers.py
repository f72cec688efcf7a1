"""One heap of deadlines for a whole server: connect timeouts, keep-alives, wills, session ends. Sans-IO.

An entry is not removed when its owner changes its mind; whoever is called looks whether anything is due. So a packet
that puts a keep-alive off costs nothing here.
"""
from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

Handler = Callable[[float], float | None]       # does what is due now; returns when to be called next, None: no more


class Deadlines:
    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Handler]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due_s: float, handler: Handler) -> None:
        self._sequence += 1
        heappush(self._heap, (due_s, self._sequence, handler))

    def run(self, now_s: float) -> None:
        """Call everybody who is due."""
        heap = self._heap
        while heap and heap[0][0] <= now_s:
            handler = heappop(heap)[2]
            again_s = handler(now_s)
            if again_s is not None:
                self.add(max(again_s, now_s + 0.001), handler)
