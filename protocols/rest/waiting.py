"""Posts that wait for the disk: a future each, and one timer for all of them (a timer per request costs 3 µs)."""
from __future__ import annotations

import asyncio
from collections import deque

from routing.ticket import Ticket


class Waiting:
    """Made once per listener. Deadlines are in order, because every wait is as long as any other."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._queue: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def durable(self, ticket: Ticket) -> bool:
        """Wait for the ticket. False when it did not complete in time."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        ticket.on_done(lambda _: None if done.done() else done.set_result(True))
        queue = self._queue
        while queue and queue[0][1].done():
            queue.popleft()
        queue.append((loop.time() + self._timeout_s, done))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._expire)
        return await done

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._timer = None
        while self._queue:
            deadline_s, done = self._queue[0]
            if not done.done() and deadline_s > now_s:
                self._timer = loop.call_at(deadline_s, self._expire)
                return
            self._queue.popleft()
            if not done.done():
                done.set_result(False)
