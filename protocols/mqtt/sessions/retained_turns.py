"""Who has retained events to send takes turns: one client, some events, in each turn of the loop."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable

from protocols.mqtt.sessions.session import WayOut


class RetainedTurns:
    """See the module's head."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._queue: deque[WayOut] = deque()
        self._queued: set[WayOut] = set()
        self._called = False

    def add(self, outbound: WayOut) -> None:
        if outbound not in self._queued:
            self._queued.add(outbound)
            self._queue.append(outbound)
        if not self._called:
            self._called = True
            self._call_soon(self._turn)

    def go_on(self, outbound: WayOut) -> None:
        """There is credit again: some at once, so that live events do not always take it first."""
        if outbound not in self._queued and outbound.step_retained():
            self.add(outbound)

    def _turn(self) -> None:
        self._called = False
        if self._queue:
            outbound = self._queue.popleft()
            self._queued.discard(outbound)
            if outbound.step_retained():
                self.add(outbound)
        if self._queue and not self._called:
            self._called = True
            self._call_soon(self._turn)
