"""When clients are told that the disk is full, and when that it has room again: connection.blocked, without flapping.

A client that is blocked stops, so whether there is room again shows only when somebody tries: clients are let go on
after a while, and blocked again by the first message that is refused. The while doubles each time that happens soon.

    full ─► blocked 2 s ─► open ─ full within a minute ─► blocked 4 s ─► … ─► blocked 60 s ─► open ─ a minute ─► as new
"""
from __future__ import annotations

BLOCKED_MIN_S = 2.0
BLOCKED_MAX_S = 60.0
QUIET_S = 60.0              # open for so long without a refusal: the disk is well


class Blocking:
    """Times are monotonic seconds."""

    __slots__ = ("_until_s", "_wait_s")

    def __init__(self) -> None:
        self._until_s = float("-inf")
        self._wait_s = BLOCKED_MIN_S            # of the next time

    def full(self, now_s: float) -> None:
        """The disk did not take a message."""
        if now_s < self._until_s:               # of those that were on the way
            return
        if now_s - self._until_s >= QUIET_S:
            self._wait_s = BLOCKED_MIN_S
        self._until_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, BLOCKED_MAX_S)

    def is_blocked(self, now_s: float) -> bool:
        return now_s < self._until_s
