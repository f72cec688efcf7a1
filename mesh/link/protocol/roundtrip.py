"""Round trip and clock skew from Ping and Pong. No clock of its own.

The skew is that of the fastest of the last 8 exchanges: what waited in a queue tells least about the clock.
Sources: RFC 6298 §2 (smoothing by 1/8), RFC 5905 §10 (clock filter).
"""
from __future__ import annotations

from collections import deque

SMOOTHING = 1 / 8
SAMPLES = 8


class RoundTrip:
    """Of one connection."""

    __slots__ = ("_samples", "last_s", "smooth_s")

    def __init__(self) -> None:
        self.smooth_s: float | None = None
        self.last_s: float | None = None
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)      # round trip s, skew ms

    def sample(self, round_trip_s: float, sent_ms: int, peer_ms: int) -> None:
        """sent_ms: our wall clock when the Ping left.  peer_ms: the peer's when it answered."""
        round_trip_s = max(0.0, round_trip_s)
        self.last_s = round_trip_s
        if self.smooth_s is None:
            self.smooth_s = round_trip_s
        else:
            self.smooth_s += SMOOTHING * (round_trip_s - self.smooth_s)
        self._samples.append((round_trip_s, peer_ms - (sent_ms + round_trip_s * 500)))

    @property
    def skew_ms(self) -> float | None:
        """The peer's wall clock minus ours."""
        return min(self._samples)[1] if self._samples else None
