"""Posts that wait for the disk, and one timer for all of them (a timer per request costs 3 µs)."""
from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from routing.ticket import Ticket


class Waits(Protocol):
    """What has a deadline."""

    def done(self) -> bool: ...

    def expire(self) -> None: ...


class Waiting:
    """Made once per listener. Deadlines are in order, because every wait is as long as any other."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._queue: deque[tuple[float, Waits]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, waits: Waits, now_s: float) -> None:
        """Expire it when it is not done in time. now_s: of the loop."""
        queue = self._queue
        while queue and queue[0][1].done():
            queue.popleft()
        queue.append((now_s + self._timeout_s, waits))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._expire)

    async def durable(self, ticket: Ticket) -> bool:
        """Wait for the ticket. False when it did not complete in time."""
        waiter = _Waiter()
        ticket.on_done(waiter.stored)
        self.watch(waiter, asyncio.get_running_loop().time())
        return await waiter.future

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._timer = None
        while self._queue:
            deadline_s, waits = self._queue[0]
            if not waits.done() and deadline_s > now_s:
                self._timer = loop.call_at(deadline_s, self._expire)
                return
            self._queue.popleft()
            if not waits.done():
                waits.expire()


class _Waiter:
    """A handler that awaits its ticket."""

    __slots__ = ("done", "future")

    def __init__(self) -> None:
        self.future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.done = self.future.done

    def stored(self, ticket: Ticket) -> None:
        if not self.future.done():
            self.future.set_result(True)

    def expire(self) -> None:
        self.future.set_result(False)
