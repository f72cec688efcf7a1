"""How much may wait for the disk before publishers are held: what it takes in WAIT_S, by what it took lately.

Whoever publishes one small event waits behind everything that waits already. A bound in bytes alone is milliseconds on
one disk and seconds on another: 32 MiB of large events were 0.8 s for a client that sent 20 bytes. Called by store.py.
"""
from __future__ import annotations

WAIT_S = 0.015              # of work for the disk may wait, in about
CYCLES = 2.0                # commits that must be able to wait: one is written, the next fills
LEAST_BYTES = 512 * 1024    # below it no rate is held against anybody: a sync costs more than so many bytes
WINDOW_S = 0.05             # of busy time over which is measured


class Pace:
    """Loop thread only. now_s: monotonic."""

    __slots__ = ("_busy_s", "_busy_since_s", "_bytes", "_commits", "bytes_max", "most_bytes")

    def __init__(self, most_bytes: int) -> None:
        """most_bytes: never more than this may wait, however fast the disk is."""
        self.most_bytes = most_bytes
        self.bytes_max = min(most_bytes, 4 * LEAST_BYTES)
        self._busy_since_s: float | None = None
        self._busy_s = 0.0
        self._bytes = 0
        self._commits = 0

    def begun(self, now_s: float) -> None:
        """A commit is under way."""
        if self._busy_since_s is None:
            self._busy_since_s = now_s

    def done(self, size: int, commits: int, now_s: float, *, more: bool) -> None:
        """Commits of so many bytes are back; more: others are under way."""
        if self._busy_since_s is None:
            return
        self._busy_s += now_s - self._busy_since_s
        self._busy_since_s = now_s if more else None
        self._bytes += size
        self._commits += commits
        if self._busy_s < WINDOW_S:
            return
        if self._bytes >= LEAST_BYTES:              # small commits say nothing of what it can take
            rate = self._bytes / self._busy_s
            wait_s = max(WAIT_S, CYCLES * self._busy_s / self._commits)
            wanted = min(max(int(rate * wait_s), LEAST_BYTES), self.most_bytes)
            self.bytes_max = (self.bytes_max + wanted) // 2
        self._busy_s, self._bytes, self._commits = 0.0, 0, 0
