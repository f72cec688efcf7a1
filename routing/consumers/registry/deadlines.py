"""Deadlines: when a consumer is to be woken, and when it expires because nobody is attached."""
from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from routing.consumers.consumer import Consumer

WOKEN_PER_TICK = 500        # consumers whose timers are seen to in one tick; the others come with the next
WAKE_AGAIN_S = 0.001        # what was left over comes with the next tick, not in this one
EXPIRY_CHECK_S = 1.0        # of who is attached, no more often
EXPIRED_PER_TICK = 50       # consumers that nobody wants any more, deleted in one tick

Entry = tuple[float, int, Consumer]


class Deadlines:
    """Of one registry."""

    def __init__(self, clock_s: Callable[[], float], expired: Callable[[Consumer], object]) -> None:
        """expired: nobody was attached to this one for so long that it goes."""
        self._clock_s = clock_s
        self._expired = expired
        self._number = 0                                # of an entry: those of one moment in their order
        self._wakes: list[Entry] = []                   # heap; an entry that is not the consumer's wakes_s is stale
        self._expiries: list[Entry] = []                # heap; looked at again if attached meanwhile

    def wake_at(self, consumer: Consumer, due_s: float) -> None:
        """Have its handle_deadline() called then, or before."""
        if not consumer.closed and (consumer.wakes_s is None or due_s < consumer.wakes_s):
            consumer.wakes_s = due_s
            self._number += 1
            heappush(self._wakes, (due_s, self._number, consumer))

    def expires(self, consumer: Consumer, since_s: float | None = None) -> None:
        """Look at it when it would expire if nobody attached from since_s on, by default from now on."""
        limit = consumer.spec.expires_s
        if limit is not None and not consumer.closed:
            self._number += 1
            due_s = (self._clock_s() if since_s is None else since_s) + limit
            heappush(self._expiries, (due_s, self._number, consumer))

    def tick(self, now_s: float) -> None:
        self._wake(now_s)
        self._expire(now_s)

    def _wake(self, now_s: float) -> None:
        woken = 0
        while self._wakes and self._wakes[0][0] <= now_s and woken < WOKEN_PER_TICK:
            due_s, _, consumer = heappop(self._wakes)
            if consumer.wakes_s == due_s:
                woken += 1
                consumer.wakes_s = None
                next_s = consumer.handle_deadline(now_s)
                if next_s is not None:
                    self.wake_at(consumer, max(next_s, now_s + WAKE_AGAIN_S))

    def _expire(self, now_s: float) -> None:
        deleted = looked = 0
        while self._expiries and self._expiries[0][0] <= now_s and deleted < EXPIRED_PER_TICK and (
                looked < WOKEN_PER_TICK):
            _, _, consumer = heappop(self._expiries)
            looked += 1
            since, limit = consumer.attachment.detached_since_s, consumer.spec.expires_s
            if limit is None or consumer.closed:
                continue
            if since is not None and now_s - since >= limit:
                deleted += 1
                self._expired(consumer)
            else:
                self.expires(consumer, since if since is not None else now_s + max(EXPIRY_CHECK_S - limit, 0.0))
