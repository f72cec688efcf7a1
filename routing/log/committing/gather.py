"""When the next group commit may start: many small publishers share one sync instead of each keeping the disk awake.

A commit costs some 150 µs of CPU whatever it carries (two thread switches and a sync). With 50 publishers at 200 events
a second each, commits back to back carry 15 events; 2.5 ms apart they carry 25, and the node needs 40 % less CPU.

Publishers that wait for each answer must not pay for it: to them a later commit is a lower rate. Both show in one
figure, the mean time between two publishes of the same publisher: whoever waits for answers comes again within two
commits. So commits start no closer together than half of that time (and gather_s at most), an interval that those
who wait never see, because their commits take longer than that anyway. Measured: 50 publishers at 200/s 49 µs
instead of 83 µs of CPU per event, p50 1.9 instead of 1.4 ms; 50 that wait for each answer: 38,000/s with and without.

PostgreSQL's commit_delay is the precedent. Called by store.py; router.py counts publishers.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

WINDOW_S = 0.05             # over which publishers are counted; the router's tick
GATHERED_MIN = 8.0          # publishes that must be expected meanwhile, else waiting is in vain
ENOUGH_BYTES = 256 * 1024   # a group of this size goes at once: the sync is a small part of its cost


class Counted(Protocol):
    """A publisher, as far as it is counted here."""

    window: int


class Gather:
    """Counts publishers and answers how long to wait. Loop thread only."""

    __slots__ = ("_calls", "_interval_s", "_publishers", "_window", "_window_start_s", "call_later", "clock_s",
                 "gather_s")

    def __init__(self, gather_s: float, clock_s: Callable[[], float],
                 call_later: Callable[[float, Callable[[], None]], object]) -> None:
        """gather_s: the longest wait, 0 for none. call_later(delay_s, work): the loop's timer."""
        self.gather_s = gather_s
        self.clock_s = clock_s
        self.call_later = call_later
        self._calls = 0
        self._publishers = 0
        self._window = 0
        self._window_start_s = clock_s()
        self._interval_s = 0.0          # wanted between two starts

    def published(self, publisher: Counted) -> None:
        """One publish call."""
        self._calls += 1
        if publisher.window != self._window:
            publisher.window = self._window
            self._publishers += 1

    def tick(self, now_s: float) -> None:
        """Every 50 ms or so: take stock."""
        elapsed_s = now_s - self._window_start_s
        if elapsed_s < WINDOW_S / 2:        # two ticks in a row after a stall
            return
        interval_s = 0.0
        if self._calls:
            again_s = elapsed_s * self._publishers / self._calls        # until the same publisher comes again
            interval_s = min(again_s / 2, self.gather_s)
            if self._calls / elapsed_s * interval_s < GATHERED_MIN:
                interval_s = 0.0
        self._interval_s = interval_s
        self._calls = self._publishers = 0
        self._window += 1
        self._window_start_s = now_s

    def wait_s(self, last_start_s: float, waiting_bytes: int) -> float:
        """Seconds until the next commit should start; 0 for now. waiting_bytes: what it would carry."""
        if not self._interval_s or waiting_bytes >= ENOUGH_BYTES:
            return 0.0
        return max(last_start_s + self._interval_s - self.clock_s(), 0.0)
