"""When to dial again. No clock and no random of its own.

A connection that was good is dialled again at once (within a tenth of a second, so that a thousand sites do not come
in the same moment); failures in a row wait longer and longer, jittered, up to a bound.
"""
from __future__ import annotations

import random

FIRST_S = 0.1           # spread of the retry after a good connection, and of the first dial
PAUSED_BY_PEER_S = 5.0  # between questions whether the peer's operator has resumed


class Backoff:
    """Of one link."""

    __slots__ = ("_max_s", "_min_s", "_rng", "failures")

    def __init__(self, min_s: float, max_s: float, rng: random.Random) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._rng = rng
        self.failures = 0

    def after_good(self) -> float:
        """Seconds to wait after a connection that lasted."""
        self.failures = 0
        return self._rng.random() * FIRST_S

    def after_failure(self) -> float:
        """Seconds to wait after a dial that failed, or a connection that did not last."""
        wait_s = min(self._max_s, self._min_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait_s * (0.5 + 0.5 * self._rng.random())
