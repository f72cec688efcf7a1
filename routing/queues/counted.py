"""Counted: after a start it is not known at once how much stands in the log for a queue. Who asks waits for that."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.queues.depth import depth_of

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.queues.leaving.letting_go import Clocks

COUNTED_S = 1.0             # at most
LOOK_S = 0.02


class Uncounted:
    """Those who want to know how much is in a queue when that is known, or after COUNTED_S."""

    __slots__ = ("_clocks", "_consumer", "_waiting")

    def __init__(self, consumer: Consumer, clocks: Clocks) -> None:
        self._consumer = consumer
        self._clocks = clocks
        self._waiting: list[tuple[float, Callable[[], None]]] = []

    def when_counted(self, call: Callable[[], None]) -> None:
        """Maybe at once."""
        if depth_of(self._consumer).exact:
            call()
            return
        now_s = self._clocks.clock_s()
        self._waiting.append((now_s + COUNTED_S, call))
        self._clocks.wake_at(self._consumer, now_s + LOOK_S)

    def look(self, now_s: float) -> None:
        """Called with every deadline of the consumer."""
        if not self._waiting:
            return
        exact = depth_of(self._consumer).exact
        due = [call for until_s, call in self._waiting if exact or now_s >= until_s]
        self._waiting = [] if exact else [entry for entry in self._waiting if now_s < entry[0]]
        if self._waiting:
            self._clocks.wake_at(self._consumer, now_s + LOOK_S)
        for call in due:
            call()

    def closed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, call in waiting:
            call()
