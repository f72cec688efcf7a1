"""Shares: how much of what a node has for all one user may take. The one place where that is decided.

Each ceiling of a node (sessions, consumers, streams, …) is for all users together. Beside it nobody may have more than
his part of what the others leave: with user_share = 0.5 a user alone gets half of the ceiling, a second one half of the
rest. So whoever takes all he can leaves room for whoever comes, and no user need be known beforehand. Where no users
are configured everybody is the same one, and the ceiling is for him.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from routing.errors import Reason, Refusal
from routing.rights.policy import ANONYMOUS


class Quotas:
    """What an administrator lets users have at most, beside their shares: of what → user → how many. A user "" stands
    for all who have none of their own. What somebody has already stays his.
    """

    def __init__(self) -> None:
        self._most: Mapping[str, Mapping[str, int]] = {}

    def replace(self, most: Mapping[str, Mapping[str, int]]) -> None:
        self._most = most

    def cap(self, what: str) -> Callable[[str], int | None]:
        """User → how many of it, None: nobody has said."""
        def most(user: str) -> int | None:
            known = self._most.get(what)
            return None if known is None else known.get(user, known.get(""))
        return most


class Share:
    """What is taken of one thing, by user. The ceiling is the caller's, as settings of protocols say it."""

    def __init__(self, what: str, part: Callable[[], float],
                 cap: Callable[[str], int | None] = lambda user: None) -> None:
        """what: plural, as a refusal says it. part: of what the others leave, above 0 to 1. cap: see Quotas."""
        self.what = what
        self.total = 0
        self._part = part
        self._cap = cap
        self._by_user: Counter[str] = Counter()

    def of(self, user: str) -> int:
        return self._by_user[user]

    def users(self) -> list[tuple[str, int]]:
        """Who has most, for people."""
        return self._by_user.most_common(20)

    def refuse(self, user: str, ceiling: int, amount: int = 1) -> Refusal | None:
        """None: there is room for one more of this user, or for so many."""
        if self.total + amount > ceiling:
            return Refusal(Reason.QUOTA_EXCEEDED, f"{self.total} {self.what} are there, that is the limit")
        own, cap = self._by_user[user], self._cap(user)
        if cap is not None and own + amount > cap:
            return Refusal(Reason.QUOTA_EXCEEDED, f"user {user} has {own} {self.what}, the quota is {cap}")
        if user == ANONYMOUS:
            return None
        most = max(1, int((ceiling - self.total + own) * self._part()))
        if own + amount > most:
            return Refusal(
                Reason.QUOTA_EXCEEDED, f"user {user} has {own} {self.what}, that is the share of one user")
        return None

    def take(self, user: str, ceiling: int, amount: int = 1) -> Refusal | None:
        """Refuse, or count one more, or so many."""
        refusal = self.refuse(user, ceiling, amount)
        if refusal is None:
            self.add(user, amount)
        return refusal

    def add(self, user: str, amount: int = 1) -> None:
        """It is there, whatever the ceiling says: such as at a start."""
        self.total += amount
        self._by_user[user] += amount

    def give(self, user: str, amount: int = 1) -> None:
        """One less, or so many."""
        self.total -= amount
        left = self._by_user[user] - amount
        if left > 0:
            self._by_user[user] = left
        else:
            del self._by_user[user]


class Shares:
    """All of them. Made by the router."""

    def __init__(self, part: Callable[[], float]) -> None:
        self.quotas = quotas = Quotas()
        self.sessions = Share("sessions", part, quotas.cap("connections"))
        self.consumers = Share("consumers", part, quotas.cap("consumers"))      # those with a name
        self.streams = Share("event streams", part, quotas.cap("connections"))     # readers over HTTP
        self.pulls = Share("waiting pulls", part)
        self.requests = Share("requests that wait for an answer", part)
        self.bodies = Share("bytes of request bodies", part)
