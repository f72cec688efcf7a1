"""The deliveries that a webhook holds, one queue per key: a key's next goes out after its former is done. Pure.

A key is ready (its first may go), busy (its first is under way) or asleep (its first failed and waits for its time).
"""
from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from routing.cursors.cursor import Delivery
from routing.keys import key_of


class KeyQueues:
    """Bounded by the credit of its owner."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Delivery]] = {}
        self._ready: deque[bytes] = deque()
        self._asleep: list[tuple[float, int, bytes]] = []
        self._sequence = 0
        self.held = 0

    def __len__(self) -> int:
        return self.held

    @property
    def sleeping(self) -> int:
        return len(self._asleep)

    def add(self, delivery: Delivery) -> None:
        key = key_of(delivery.event)
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque((delivery,))
            self._ready.append(key)
        else:
            queue.append(delivery)
        self.held += 1

    def waiting(self, now_s: float) -> bool:
        """True when something may go out now."""
        self._wake(now_s)
        return bool(self._ready)

    def take(self, now_s: float) -> Delivery | None:
        """The next that may go out; its key is busy until done() or later()."""
        self._wake(now_s)
        return self._queues[self._ready.popleft()][0] if self._ready else None

    def done(self, delivery: Delivery) -> None:
        """The first of a busy key is settled."""
        key = key_of(delivery.event)
        queue = self._queues[key]
        queue.popleft()
        self.held -= 1
        if queue:
            self._ready.append(key)
        else:
            del self._queues[key]

    def later(self, delivery: Delivery, due_s: float) -> None:
        """The first of a busy key goes out again, not before due_s."""
        self._sequence += 1
        heappush(self._asleep, (due_s, self._sequence, key_of(delivery.event)))

    def next_due_s(self) -> float | None:
        return self._asleep[0][0] if self._asleep else None

    def clear(self) -> None:
        self._queues.clear()
        self._ready.clear()
        self._asleep.clear()
        self.held = 0

    def _wake(self, now_s: float) -> None:
        while self._asleep and self._asleep[0][0] <= now_s:
            self._ready.append(heappop(self._asleep)[2])
