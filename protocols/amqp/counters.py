"""Plain counters of the AMQP 1.0 server. The metrics read them."""
from __future__ import annotations

from collections import Counter


class Counters:
    """Totals since the start. "closed.amqp:not-found": the counter closed with the label amqp:not-found."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Counter[str] = Counter(dict.fromkeys(
            ("bytes_in", "bytes_out", "connections_opened", "received", "delivered", "rejected", "logins_refused"), 0))

    def snapshot(self) -> dict[str, int]:
        return dict(self.values)


class LogLimit:
    """Lets some log lines per second through, so that a flood of bad connections does not become one of log lines."""

    __slots__ = ("_left", "_lines_per_s", "_second")

    def __init__(self, lines_per_s: int) -> None:
        self._lines_per_s = lines_per_s
        self._second = -1
        self._left = 0

    def allows(self, now_s: float) -> bool:
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._left = self._lines_per_s
        self._left -= 1
        return self._left >= 0
