"""ShareGroup: who is in a share group, and what each member may take from. Sans-IO.                   Source: KIP-932

Every member may take from every partition of its topics: the Consumer hands each record to one of them, so there is
nothing to keep apart, and a slow member holds nobody up.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from protocols.kafka.groups.assignors import Partitions
from protocols.kafka.runtime.timers import Timer

PLACE_BYTES: Final = 150        # of a partition in a set, its id and number


class ShareMember:
    """Loop thread only. Owned by its group."""

    __slots__ = ("client_host", "client_id", "deadline_s", "epoch", "epoch_before", "member_id", "places", "rack_id",
                 "size", "timer", "told", "topics", "topics_seen")

    def __init__(self, member_id: str) -> None:
        self.member_id = member_id
        self.client_id = self.client_host = ""
        self.rack_id: str | None = None
        self.topics: frozenset[str] = frozenset()
        self.places: Partitions = set()                 # the partitions of its topics
        self.size = 0                                   # characters that it is kept with
        self.topics_seen = -1                           # which state of the node's topics that is of
        self.told: Partitions | None = None             # those of the last answer that named any
        self.epoch = self.epoch_before = 0
        self.timer: Timer | None = None
        self.deadline_s = 0.0                           # then its session is over


class ShareGroup:
    """Loop thread only. Members are not stored: after a crash they join again."""

    __slots__ = ("_places", "_places_seen", "epoch", "group_id", "members", "unset")

    def __init__(self, group_id: str, epoch: int = 0, unset: Iterable[str] = ()) -> None:
        self.group_id = group_id
        self.epoch = epoch
        self.members: dict[str, ShareMember] = {}
        self.unset = set(unset)                         # topics whose offsets were deleted: who comes begins anew
        self._places: dict[frozenset[str], Partitions] = {}     # of the topics that members read; one for all alike
        self._places_seen = -1                          # which state of the node's topics that is of

    @property
    def state(self) -> str:
        return "Stable" if self.members else "Empty"

    @property
    def size(self) -> int:
        """Characters that its members are kept with."""
        return sum([member.size for member in self.members.values()])

    def places(self, topics: frozenset[str], version: int, look: Callable[[frozenset[str]], Partitions]) -> Partitions:
        """The partitions of some topics: the same set for all members that read these. look: says which there are."""
        if version != self._places_seen:
            self._places.clear()
            self._places_seen = version
        if topics not in self._places:
            self._places[topics] = look(topics)
        return self._places[topics]

    def places_bytes(self) -> int:
        """Of those that some member reads."""
        read = {member.topics for member in self.members.values()}
        self._places = {topics: places for topics, places in self._places.items() if topics in read}
        return PLACE_BYTES * sum([len(places) for places in self._places.values()])

    @property
    def topics(self) -> set[str]:
        return set().union(*(member.topics for member in self.members.values()))


class StoredShareGroup(msgspec.Struct, frozen=True):
    owner: str
    epoch: int
    unset: tuple[str, ...] = ()
