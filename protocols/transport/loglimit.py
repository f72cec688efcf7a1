"""A bound on the log lines that clients of one listener can cause."""
from __future__ import annotations


class LogLimit:
    """Lets some log lines per second through, so that a flood of bad connections does not become one of log lines."""

    __slots__ = ("_left", "_lines_per_s", "_second", "suppressed")

    def __init__(self, lines_per_s: int) -> None:
        self._lines_per_s = lines_per_s
        self._second = -1
        self._left = 0
        self.suppressed = 0             # lines that were not written

    def allows(self, now_s: float) -> bool:
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._left = self._lines_per_s
        self._left -= 1
        if self._left >= 0:
            return True
        self.suppressed += 1
        return False
