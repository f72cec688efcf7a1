"""Token buckets: bytes per second. No clock of their own.

A bucket may go into debt by one message, so that a message larger than the burst passes and is paid for afterwards.
"""
from __future__ import annotations

BURST_S = 0.25          # a bucket holds so many seconds of its rate
BURST_BYTES_MIN = 4_096
PRIORITIES = 10         # of links, 0 to 9


class TokenBucket:
    """rate: bytes per second, 0 for no bound. burst: bytes; None: a quarter of a second's."""

    def __init__(self, rate: int, burst: int | None = None) -> None:
        self.rate = rate
        self.burst = max(BURST_BYTES_MIN, int(rate * BURST_S)) if burst is None else burst
        self._tokens = float(self.burst)
        self._filled_s: float | None = None

    def room(self, now_s: float) -> int:
        """Bytes that may be spent now; 0 or less means wait."""
        if not self.rate:
            return 2**62
        if self._filled_s is not None and now_s > self._filled_s:
            self._tokens = min(float(self.burst), self._tokens + (now_s - self._filled_s) * self.rate)
        self._filled_s = now_s
        return int(self._tokens)

    def spend(self, size: int) -> None:
        if self.rate:
            self._tokens -= size

    def set_rate(self, rate: int) -> None:
        """Take a new rate. What was saved under the old one is lost beyond the new burst."""
        self.rate = rate
        self.burst = max(BURST_BYTES_MIN, int(rate * BURST_S))
        self._tokens = min(self._tokens, float(self.burst)) if self._filled_s is not None else float(self.burst)


class Uplink:
    """What all links of a node share. A link draws only while no link of higher priority waits."""

    def __init__(self, rate: int) -> None:
        self.bucket = TokenBucket(rate)
        self._waiting: list[set[object]] = [set() for _ in range(PRIORITIES)]

    def room(self, who: object, priority: int, now_s: float) -> int:
        """Bytes that this link may send now. Asking means waiting until done() is called."""
        if not self.bucket.rate:
            return 2**62
        self._waiting[priority].add(who)
        if any(self._waiting[higher] for higher in range(priority + 1, PRIORITIES)):
            return 0
        return self.bucket.room(now_s)

    def spend(self, size: int) -> None:
        self.bucket.spend(size)

    def done(self, who: object) -> None:
        """This link has nothing left to send."""
        if self.bucket.rate:
            for waiting in self._waiting:
                waiting.discard(who)
