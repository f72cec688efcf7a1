"""ShareGroup: who is in a share group, and what each member may take from. Sans-IO.                   Source: KIP-932

Every member may take from every partition of its topics: the Consumer hands each record to one of them, so there is
nothing to keep apart, and a slow member holds nobody up.
"""
from __future__ import annotations

import msgspec

from protocols.kafka.groups.assignors import Partitions
from protocols.kafka.runtime.timers import Timer


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

    __slots__ = ("epoch", "group_id", "members")

    def __init__(self, group_id: str, epoch: int = 0) -> None:
        self.group_id = group_id
        self.epoch = epoch
        self.members: dict[str, ShareMember] = {}

    @property
    def state(self) -> str:
        return "Stable" if self.members else "Empty"

    @property
    def size(self) -> int:
        """Characters that its members are kept with."""
        return sum([member.size for member in self.members.values()])

    @property
    def topics(self) -> set[str]:
        return set().union(*(member.topics for member in self.members.values()))


class StoredShareGroup(msgspec.Struct, frozen=True):
    owner: str
    epoch: int
