"""What waits for one link: a queue per priority, each with a budget in bytes. Called by session.py.

    0 control  before  1 gossip  before  2 direct : 3 data, 3 bytes to 1 while both wait, so that neither starves
"""
from __future__ import annotations

from collections import deque

from mesh.link.protocol.frames import PRIORITIES, PRIORITY_DATA, PRIORITY_DIRECT, PRIORITY_GOSSIP

DIRECT_SHARE = 3        # bytes of direct frames per byte of data


class Outbox:
    """Encoded frames by priority. budgets: bytes for each of the 4 priorities."""

    __slots__ = ("_budgets", "_queues", "_sizes", "_turn", "dropped", "frames", "size_bytes", "taken_bytes")

    def __init__(self, budgets: tuple[int, int, int, int]) -> None:
        self._budgets = budgets
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in range(PRIORITIES))
        self._sizes = [0] * PRIORITIES
        self._turn = 0                      # direct bytes sent beyond their share; negative: data's
        self.size_bytes = 0
        self.frames = 0
        self.taken_bytes = 0                # of all but control frames, since the start
        self.dropped = [0] * PRIORITIES     # frames that found their queue full

    def put(self, data: bytes, priority: int) -> bool:
        """False: the budget of this priority is used up. A queue that is empty takes any frame."""
        waiting = self._sizes[priority]
        if waiting and waiting + len(data) > self._budgets[priority]:
            self.dropped[priority] += 1
            return False
        self._queues[priority].append(data)
        self._sizes[priority] = waiting + len(data)
        self.size_bytes += len(data)
        self.frames += 1
        return True

    @property
    def urgent_bytes(self) -> int:
        """Of control and gossip, which rate limits do not hold back."""
        return self._sizes[0] + self._sizes[PRIORITY_GOSSIP]

    def take(self, bytes_max: int, *, urgent_only: bool = False) -> list[bytes]:
        """Frames for one message, at most bytes_max in all; one larger frame comes alone."""
        taken: list[bytes] = []
        room = bytes_max
        while True:
            priority = self._next(urgent_only)
            if priority < 0:
                break
            size = len(self._queues[priority][0])
            if size > room and taken:
                break
            taken.append(self._queues[priority].popleft())
            self._sizes[priority] -= size
            room -= size
            self.size_bytes -= size
            self.frames -= 1
            if priority:
                self.taken_bytes += size
            if priority >= PRIORITY_DIRECT:
                self._account(priority, size)
        return taken

    def clear(self, first: int = 0) -> None:
        """Throw away what waits, of this priority and the ones behind it."""
        for priority in range(first, PRIORITIES):
            self.size_bytes -= self._sizes[priority]
            self.frames -= len(self._queues[priority])
            self._sizes[priority] = 0
            self._queues[priority].clear()

    def _next(self, urgent_only: bool) -> int:
        queues = self._queues
        if queues[0]:
            return 0
        if queues[PRIORITY_GOSSIP]:
            return PRIORITY_GOSSIP
        if urgent_only:
            return -1
        if queues[PRIORITY_DIRECT]:
            return PRIORITY_DATA if queues[PRIORITY_DATA] and self._turn > 0 else PRIORITY_DIRECT
        return PRIORITY_DATA if queues[PRIORITY_DATA] else -1

    def _account(self, priority: int, size: int) -> None:
        other = PRIORITY_DATA if priority == PRIORITY_DIRECT else PRIORITY_DIRECT
        if not self._queues[other]:
            self._turn = 0
        elif priority == PRIORITY_DIRECT:
            self._turn += size
        else:
            self._turn -= DIRECT_SHARE * size
