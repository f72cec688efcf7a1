"""Whose turn is it: what waits for the password check, fair between addresses and, within one, between users.

    network ── user ── entry, entry          take(): one entry of the first network's first user; then both stand
       │         └──── user ── entry         at the end of their lines
    network ── …

Who sends thousands of logins waits behind itself. When the room is full the longest network gives up what it asked
for last; a newcomer of that network is the one. No clock, no I/O.
"""
from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar


class Waits(Protocol):
    """An entry: for whom, and from where."""

    @property
    def user(self) -> str: ...

    @property
    def network(self) -> str: ...


Entry = TypeVar("Entry", bound=Waits)


class _Line(Generic[Entry]):
    """The entries of one network."""

    __slots__ = ("count", "users")

    def __init__(self) -> None:
        self.count = 0
        self.users: OrderedDict[str, deque[Entry]] = OrderedDict()


class Turns(Generic[Entry]):
    """See the module's head."""

    def __init__(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self.count = 0
        self._lines: OrderedDict[str, _Line[Entry]] = OrderedDict()

    def ahead_of(self, user: str, network: str) -> int:
        """Entries of the same network that are served before a new one of this user would be."""
        line = self._lines.get(network)
        if line is None:
            return 0
        return min(line.count, (len(line.users.get(user, ())) + 1) * len(line.users))

    def add(self, entry: Entry) -> Entry | None:
        """Put an entry in line. Returns the one that had to go for it: perhaps itself, most often none."""
        gone: Entry | None = None
        if self.count >= self.entries_max:
            longest = max(self._lines.values(), key=_count)
            own = self._lines.get(entry.network)
            if own is not None and own.count >= longest.count:
                return entry
            gone = max(longest.users.values(), key=len)[-1]
            self.discard(gone)
        line = self._lines.get(entry.network)
        if line is None:
            line = self._lines[entry.network] = _Line()
        waiting = line.users.get(entry.user)
        if waiting is None:
            waiting = line.users[entry.user] = deque()
        waiting.append(entry)
        line.count += 1
        self.count += 1
        return gone

    def take(self) -> Entry | None:
        """The next one, out of the line."""
        if not self._lines:
            return None
        network, line = next(iter(self._lines.items()))
        user, waiting = next(iter(line.users.items()))
        entry = waiting.popleft()
        line.count -= 1
        self.count -= 1
        if waiting:
            line.users.move_to_end(user)
        else:
            del line.users[user]
        if line.count:
            self._lines.move_to_end(network)
        else:
            del self._lines[network]
        return entry

    def discard(self, entry: Entry) -> bool:
        """It does not wait any more. False: it was not in line."""
        line = self._lines.get(entry.network)
        waiting = line.users.get(entry.user) if line is not None else None
        if line is None or waiting is None or entry not in waiting:
            return False
        waiting.remove(entry)
        line.count -= 1
        self.count -= 1
        if not waiting:
            del line.users[entry.user]
        if not line.count:
            del self._lines[entry.network]
        return True


def _count(line: _Line[Entry]) -> int:
    return line.count
