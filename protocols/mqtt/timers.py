"""One heap of deadlines for a whole server: connect timeouts, keep-alives, wills, session ends. Sans-IO.

An entry is not removed when its owner changes its mind; whoever is called looks whether anything is due. So a packet
that puts a keep-alive off costs nothing here. An owner that is gone is let go at once (Due).
"""
from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

Handler = Callable[[float], float | None]       # does what is due now; returns when to be called next, None: no more


RUN_MAX = 30            # handlers of one turn: sessions that end together take some 0.2 ms each
DEAD_MIN = 1_000        # dead entries are left where they are until there are more than these, and than living ones


class Due:
    """A handler that can be taken out: its entry stays in the heap until it is due, its owner does not."""

    __slots__ = ("handler",)

    def __init__(self, handler: Handler) -> None:
        self.handler: Handler | None = handler

    def __call__(self, now_s: float) -> float | None:
        return self.handler(now_s) if self.handler is not None else None


class Deadlines:
    __slots__ = ("_dead", "_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Handler]] = []
        self._sequence = 0
        self._dead = 0                  # entries whose owner has gone, about

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due_s: float, handler: Handler) -> None:
        self._sequence += 1
        heappush(self._heap, (due_s, self._sequence, handler))

    def forget(self, due: Due) -> None:
        """The owner has gone: a connection that has ended, whose keep-alive may be hours."""
        if due.handler is None:
            return
        due.handler = None
        self._dead += 1
        if self._dead > max(DEAD_MIN, len(self._heap) // 2):
            self._dead = 0
            self._heap = [entry for entry in self._heap if not _is_dead(entry[2])]
            heapify(self._heap)

    def run(self, now_s: float) -> bool:
        """Call who is due, RUN_MAX of them at most. True: there are more, for another turn."""
        for _ in range(RUN_MAX):
            if not self._heap or self._heap[0][0] > now_s:
                return False
            handler = heappop(self._heap)[2]
            again_s = handler(now_s)
            if again_s is not None:
                self.add(max(again_s, now_s + 0.001), handler)
        return bool(self._heap) and self._heap[0][0] <= now_s


def _is_dead(handler: Handler) -> bool:
    return isinstance(handler, Due) and handler.handler is None
