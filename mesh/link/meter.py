"""Throughput: bytes per second over the last few seconds. No clock of its own."""
from __future__ import annotations

import math

WINDOW_S = 5.0          # what is older counts for a third and less


class Meter:
    """An exponentially weighted rate."""

    __slots__ = ("_at_s", "_rate", "total")

    def __init__(self) -> None:
        self.total = 0
        self._rate = 0.0
        self._at_s: float | None = None

    def add(self, size: int, now_s: float) -> None:
        self.total += size
        self._rate = self.rate(now_s) + size / WINDOW_S
        self._at_s = now_s

    def rate(self, now_s: float) -> float:
        """Bytes per second."""
        if self._at_s is None:
            return 0.0
        return self._rate * math.exp((self._at_s - now_s) / WINDOW_S) if now_s > self._at_s else self._rate
