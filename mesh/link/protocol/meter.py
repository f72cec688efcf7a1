"""Throughput: bytes per second over the last few seconds. No clock of its own."""
from __future__ import annotations

import math

WINDOW_S = 5.0          # what is older counts for a third and less
QUIET_S = 10.0          # after such a pause it begins anew
YOUNG_S = 1.0           # a meter that is younger counts as so old, or the first bytes would look like a flood


class Meter:
    """An exponentially weighted rate, corrected for the time that the meter has not seen yet."""

    __slots__ = ("_at_s", "_since_s", "_weighted", "total")

    def __init__(self) -> None:
        self.total = 0
        self._weighted = 0.0
        self._since_s: float | None = None
        self._at_s = 0.0

    def add(self, size: int, now_s: float) -> None:
        self.total += size
        if self._since_s is None or now_s - self._at_s > QUIET_S:
            self._since_s, self._weighted = now_s, 0.0
        else:
            self._weighted *= math.exp(min(0.0, (self._at_s - now_s) / WINDOW_S))
        self._weighted += size / WINDOW_S
        self._at_s = now_s

    def rate(self, now_s: float) -> float:
        """Bytes per second."""
        if self._since_s is None:
            return 0.0
        seen = 1 - math.exp(-max(YOUNG_S, now_s - self._since_s) / WINDOW_S)
        return self._weighted * math.exp(min(0.0, (self._at_s - now_s) / WINDOW_S)) / seen
