"""Once: which numbered messages of a sender were seen, so that a frame that came twice counts once.

The window that IPsec keeps against replays: the highest number so far, and a bit for each of the numbers below it. What
is older than the window is taken for seen.                                                    Source: RFC 4303 §3.4.3
"""
from __future__ import annotations

WINDOW = 4_096              # numbers below the highest that may still come: frames on two paths of different length
SENDERS_MAX = 4_096         # a sender is a process: a node that starts again is a new one

_ALL = (1 << WINDOW) - 1


class Once:
    """The windows of all senders, the least recently heard goes first."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], tuple[int, int]] = {}     # (node, run) → highest number, bits below it

    def is_new(self, node: str, run: int, number: int) -> bool:
        """True for the first time. Numbers of a run begin at 1 and rise by one."""
        highest, seen = self._windows.pop((node, run), (0, 0))
        if number > highest:
            new, seen = True, (seen << number - highest | 1 << number - highest - 1) & _ALL
            if number - highest > WINDOW:
                seen = 0
            highest = number
        else:
            age = highest - number                      # 0: the highest itself
            bit = 1 << age - 1 if age else 0
            new = 0 < age <= WINDOW and not seen & bit
            seen |= bit if new else 0
        if len(self._windows) >= SENDERS_MAX:
            del self._windows[next(iter(self._windows))]
        self._windows[node, run] = (highest, seen)
        return new
