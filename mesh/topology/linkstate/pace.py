"""A token bucket: so much at once, so much per second."""
from __future__ import annotations


class Bucket:
    """take() says whether there is room; the debt of one large taking is paid off before the next one."""

    __slots__ = ("_burst", "_per_s", "_tokens", "_when_s")

    def __init__(self, burst: float, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens = burst
        self._when_s = now_s

    def take(self, count: float, now_s: float) -> bool:
        """False: nothing was taken, come back after wait_s()."""
        self._refill(now_s)
        if self._tokens <= 0:
            return False
        self._tokens -= count
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until take() will say yes; 0.0 when it does now."""
        self._refill(now_s)
        return 0.0 if self._tokens > 0 else (1e-6 - self._tokens) / self._per_s + 1e-6

    def _refill(self, now_s: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._when_s) * self._per_s)
        self._when_s = now_s
