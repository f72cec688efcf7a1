"""A resource that all clients take from: a ceiling for all, and a share of it for each owner. Sans-IO.

Without the share whoever comes first and often can have all of it; with it he can have his share, and the others find
the rest. An owner is a user, or an address while nobody has logged in (see Session.owner in rest/auth.py).
"""
from __future__ import annotations


class Shares:
    """Amounts in whatever unit the resource has. Loop thread only."""

    __slots__ = ("_taken", "each", "total", "used")

    def __init__(self, total: int, each: int) -> None:
        self.total = total
        self.each = each
        self.used = 0
        self._taken: dict[str, int] = {}        # of owners who have something

    def of(self, owner: str) -> int:
        return self._taken.get(owner, 0)

    def take(self, owner: str, amount: int = 1) -> bool:
        """False: nothing was taken, since the owner's share, or all of it, is used."""
        taken = self._taken.get(owner, 0) + amount
        if taken > self.each or self.used + amount > self.total:
            return False
        self._taken[owner] = taken
        self.used += amount
        return True

    def give(self, owner: str, amount: int = 1) -> None:
        """Back what was taken."""
        self.used -= amount
        left = self._taken.get(owner, 0) - amount
        if left > 0:
            self._taken[owner] = left
        else:
            self._taken.pop(owner, None)
