"""Accounts: what the consumers of one user have in flight in memory, all together.

Used by consumer.py. A user whose readers do not answer keeps that much and no more, however many consumers he opens.
Each of them may always have a little, so that one slow reader does not stop the others of the same user.
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol
from weakref import WeakValueDictionary

LEAST_BYTES = 64 * 1024     # that a consumer may have in flight however much the others of its user have

WOKEN = 16                  # consumers that try again when some room is made


class Holder(Protocol):
    """A consumer."""

    in_flight_bytes: int

    def ready(self) -> None: ...


class Account:
    """Of one user."""

    __slots__ = ("__weakref__", "_bytes_max", "_crowded", "_waiting", "bytes", "user")

    def __init__(self, user: str, bytes_max: Callable[[], int], crowded: dict[Account, None]) -> None:
        """crowded: the accounts in which somebody waits."""
        self.user = user
        self._crowded = crowded
        self.bytes = 0                                  # payloads in flight
        self._bytes_max = bytes_max
        self._waiting: dict[Holder, None] = {}          # who could not have what it wanted

    def room(self, holder: Holder, wanted: int) -> int:
        """How much of it this consumer may have more."""
        left = self._bytes_max() - self.bytes
        if wanted <= left:
            return wanted
        self._waiting[holder] = None
        self._crowded[self] = None
        return max(left, min(wanted, LEAST_BYTES - holder.in_flight_bytes))

    def hold(self, size: int) -> None:
        """So many bytes more are in flight, or fewer when it is negative."""
        self.bytes += size
        if size < 0 and self._waiting:
            self.wake()

    def wake(self) -> None:
        """There may be room: some of those who wait try again, in turns. Who finds too little waits again."""
        if self.bytes < self._bytes_max():
            for holder in list(islice(self._waiting, WOKEN)):
                del self._waiting[holder]
                holder.ready()
        if not self._waiting:
            self._crowded.pop(self, None)


class Accounts:
    """Of all users; one lives as long as a consumer of that user."""

    def __init__(self, bytes_max: Callable[[], int]) -> None:
        self._bytes_max = bytes_max
        self._crowded: dict[Account, None] = {}        # in order: a set's goes by address
        self._by_user: WeakValueDictionary[str, Account] = WeakValueDictionary()

    def of(self, user: str) -> Account:
        found = self._by_user.get(user)
        if found is None:
            found = self._by_user[user] = Account(user, self._bytes_max, self._crowded)
        return found

    def tick(self) -> None:
        """Nobody waits for ever where those who were woken did not want the room."""
        for account in list(self._crowded):
            account.wake()
