"""Lock-out: 5 failed logins in 5 minutes close the door for 10 minutes, per user and address. No clock of its own.

Unknown users are counted like known ones, so a lock-out does not tell which users exist.
"""
from __future__ import annotations

from collections import OrderedDict

from protocols.transport.network import network_of as network_of

FAILURES_MAX = 5
WINDOW_S = 300.0
LOCKED_S = 600.0
ENTRIES_MAX = 65_536        # pairs remembered; the one that failed longest ago is forgotten first


class _Entry:
    __slots__ = ("failures", "locked_until_s", "trying")

    def __init__(self) -> None:
        self.failures: list[float] = []     # monotonic seconds, at most FAILURES_MAX
        self.locked_until_s = 0.0
        self.trying = 0                     # verifications under way: guesses in parallel count as well


class Lockout:
    """Failed logins per (user, network)."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()

    def is_locked(self, user: str, network: str, now_s: float) -> bool:
        return self.locked_s(user, network, now_s) > 0

    def locked_s(self, user: str, network: str, now_s: float) -> float:
        """Seconds until the door opens again; 0 when it is open."""
        entry = self._entries.get((user, network))
        return max(entry.locked_until_s - now_s, 0.0) if entry is not None else 0.0

    def may_try(self, user: str, network: str, now_s: float) -> bool:
        """False while so many guesses are under way that they could use up the allowance."""
        entry = self._entries.get((user, network))
        if entry is None:
            return True
        recent = sum(1 for failed_s in entry.failures if failed_s > now_s - WINDOW_S)
        return recent + entry.trying < FAILURES_MAX

    def begin(self, user: str, network: str, now_s: float) -> None:
        self._entry(user, network).trying += 1

    def end(self, user: str, network: str) -> None:
        entry = self._entries.get((user, network))
        if entry is not None:
            entry.trying = max(0, entry.trying - 1)

    def fail(self, user: str, network: str, now_s: float) -> bool:
        """Count a failure; True when it was the one that closed the door."""
        entry = self._entry(user, network)
        entry.failures = [failed_s for failed_s in entry.failures if failed_s > now_s - WINDOW_S]
        entry.failures.append(now_s)
        if len(entry.failures) < FAILURES_MAX or entry.locked_until_s > now_s:
            return False
        entry.failures.clear()
        entry.locked_until_s = now_s + LOCKED_S
        return True

    def forget(self, user: str, network: str) -> None:
        """A good login clears the slate."""
        self._entries.pop((user, network), None)

    def locked_count(self, now_s: float) -> int:
        return sum(1 for entry in self._entries.values() if entry.locked_until_s > now_s)

    def _entry(self, user: str, network: str) -> _Entry:
        key = (user, network)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            if len(self._entries) > ENTRIES_MAX:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return entry
