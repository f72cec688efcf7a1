"""Round trip of a flow, end to end: Pull to the Batch that answers it. Source: RFC 6298, with bounds of our own."""
from __future__ import annotations

from typing import Final

INITIAL_S: Final = 1.0
LEAST_S: Final = 0.1            # answers wait for a commit, a turn of the loop, a queue
MOST_S: Final = 10.0
PULLS_MAX: Final = 64           # questions remembered


class RoundTrip:
    """Smoothed round trip, and how long to wait for an answer."""

    __slots__ = ("_asked", "_backoff", "smooth_s", "varies_s")

    def __init__(self) -> None:
        self.smooth_s: float | None = None
        self.varies_s = 0.0
        self._asked: dict[int, float] = {}
        self._backoff = 1.0

    def asked(self, sequence: int, now_s: float) -> None:
        if len(self._asked) >= PULLS_MAX:
            del self._asked[next(iter(self._asked))]
        self._asked[sequence] = now_s

    def answered(self, sequence: int, now_s: float) -> None:
        """Every Pull has its own number, so there is no doubt which one was answered."""
        asked_s = self._asked.pop(sequence, None)
        if asked_s is None:
            return
        self._backoff = 1.0
        sample_s = max(0.0, now_s - asked_s)
        if self.smooth_s is None:
            self.smooth_s, self.varies_s = sample_s, sample_s / 2
        else:
            self.varies_s += (abs(self.smooth_s - sample_s) - self.varies_s) / 4
            self.smooth_s += (sample_s - self.smooth_s) / 8

    def unanswered(self) -> None:
        self._backoff = min(self._backoff * 2, MOST_S / LEAST_S)

    def fresh(self) -> None:
        """The way may be another one: do not wait long for the next answer."""
        self._backoff = 1.0
        self._asked.clear()

    @property
    def timeout_s(self) -> float:
        if self.smooth_s is None:
            return min(INITIAL_S * self._backoff, MOST_S)
        return min(max(LEAST_S, self.smooth_s * 1.5 + 4 * self.varies_s) * self._backoff, MOST_S)

    @property
    def grace_s(self) -> float:
        """How long what is missing may be on its way still, overtaken by others."""
        return min(max(0.005, (self.smooth_s or 0.02) / 4), 0.25)
