"""Members of a consumer and the choice of the one that gets the next events: the four modes.

exclusive    one member; a second one is refused
failover     the first member is active, the others wait
shared       round robin over the members that have credit
key-shared   by hash of the event's key; while events of a key are in flight it stays where it is, so a key never
             has two readers and its order holds when members come and go
"""
from __future__ import annotations

import enum
from collections.abc import Container
from typing import Generic, Protocol, TypeVar

from routing.event import Event
from routing.keys import key_hash
from routing.rights.policy import Identity


class Mode(enum.Enum):
    EXCLUSIVE = "exclusive"
    SHARED = "shared"
    FAILOVER = "failover"
    KEY_SHARED = "key-shared"


class Reader(Protocol):
    """What the choice needs of a member; consumer.py says what a Member is."""

    @property
    def identity(self) -> Identity: ...

    credit: int


R = TypeVar("R", bound=Reader)


class Members(Generic[R]):
    """The attached members, in order of arrival."""

    __slots__ = ("_early", "_limits", "_next", "_owners", "_priorities", "all", "mode")

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.all: list[R] = []
        self._next = 0
        self._priorities: dict[int, int] = {}           # by identity, of those that have another one than 0
        self._early: set[int] = set()                   # by identity, those that take what is not on disk yet
        self._limits: dict[int, Container[object]] = {}  # by identity, the partitions that one takes from, if not all
        self._owners: dict[int, tuple[R, int]] = {}    # key hash → who reads it, events in flight

    def __len__(self) -> int:
        return len(self.all)

    def add(self, member: R, priority: int = 0, *, early: bool = False) -> None:
        """In the order of priority, then of arrival; but who is active in failover stays so."""
        if early:
            self._early.add(id(member))
        if priority:
            self._priorities[id(member)] = priority
        place = len(self.all)
        first = 1 if self.mode is Mode.FAILOVER else 0
        while place > first and self.priority(self.all[place - 1]) < priority:
            place -= 1
        self.all.insert(place, member)

    def priority(self, member: R) -> int:
        return self._priorities.get(id(member), 0)

    def is_early(self, member: R) -> bool:
        return id(member) in self._early

    def remove(self, member: R) -> bool:
        if member not in self.all:
            return False
        self.all.remove(member)
        self._early.discard(id(member))
        self._priorities.pop(id(member), None)
        self._limits.pop(id(member), None)
        self._owners = {key: owner for key, owner in self._owners.items() if owner[0] is not member}
        return True

    def limit(self, member: R, partitions: Container[object]) -> None:
        """Shared: from now on it takes from these only."""
        self._limits[id(member)] = partitions

    def next(self, partition: object = None) -> R | None:
        """The member that gets the next events of a partition, None when nobody has credit. Not for key-shared."""
        members = self.all
        if self.mode is not Mode.SHARED:
            return members[0] if members and members[0].credit > 0 else None
        if self._priorities:
            members = self._highest()
        for step in range(len(members)):
            index = (self._next + step) % len(members)
            if members[index].credit > 0 and (
                    not self._limits or partition in self._limits.get(id(members[index]), (partition,))):
                self._next = index + 1
                return members[index]
        return None

    def _highest(self) -> list[R]:
        """Those of the highest priority among which somebody has credit."""
        best = max((self.priority(member) for member in self.all if member.credit > 0), default=None)
        return [member for member in self.all if self.priority(member) == best]

    def share(self, count: int) -> int:
        """How many of count waiting events one member should get at a time."""
        if self.mode is Mode.SHARED and len(self.all) > 1:
            return -(-count // (len(self._highest()) if self._priorities else len(self.all)))
        return count

    def credit(self) -> int:
        """Deliveries that the members who may read take now."""
        if self.mode in (Mode.SHARED, Mode.KEY_SHARED):
            return sum(member.credit for member in self.all if member.credit > 0)
        return self.all[0].credit if self.all else 0

    def owner(self, event: Event) -> R:
        """Key-shared: who reads this event's key. There must be a member."""
        digest = key_hash(event)
        owned = self._owners.get(digest)
        return owned[0] if owned is not None else self.all[digest % len(self.all)]

    def release_keys(self) -> None:
        """Nothing is in flight any more."""
        self._owners.clear()

    def key_taken(self, event: Event, member: R) -> None:
        digest = key_hash(event)
        owned = self._owners.get(digest)
        self._owners[digest] = (member, 1 if owned is None else owned[1] + 1)

    def key_released(self, event: Event) -> None:
        digest = key_hash(event)
        owned = self._owners.get(digest)
        if owned is None:
            return
        if owned[1] <= 1:
            del self._owners[digest]
        else:
            self._owners[digest] = (owned[0], owned[1] - 1)
