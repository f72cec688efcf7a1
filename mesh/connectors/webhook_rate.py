"""At most so many requests a minute: a bucket that fills steadily and holds a second's worth. Time is an argument."""
from __future__ import annotations


class Rate:
    """per_minute None: no bound."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_s = 0.0
        self._tokens = 0.0
        self._filled_s: float | None = None
        self.limit(per_minute)

    def limit(self, per_minute: int | None) -> None:
        self._per_s = 0.0 if per_minute is None else per_minute / 60
        self._tokens = max(self._per_s, 1.0)

    def may_send(self, now_s: float) -> bool:
        if not self._per_s:
            return True
        if self._filled_s is not None:
            self._tokens = min(self._tokens + (now_s - self._filled_s) * self._per_s, max(self._per_s, 1.0))
        self._filled_s = now_s
        return self._tokens >= 1.0 - 1e-9

    def sent(self, now_s: float) -> None:
        self._tokens -= 1.0

    def next_s(self, now_s: float) -> float | None:
        """When the next request may go; None when that is now."""
        if not self._per_s or self._tokens >= 1.0 - 1e-9:
            return None
        return (self._filled_s or now_s) + (1.0 - self._tokens) / self._per_s
