"""ConsumerMember: one member of a consumer group, as the node knows it.                              Source: KIP-848"""
from __future__ import annotations

import msgspec

from protocols.kafka.groups.assignors import Partitions
from protocols.kafka.runtime.timers import Timer

LEFT_FOR_NOW = -2               # the epoch of a static member that has said it comes back


ID_CHARS_MAX = 255              # of a member's, an instance's, a rack's or a client's id


def id_problem(*ids: str | None) -> str | None:
    long = any(text is not None and len(text) > ID_CHARS_MAX for text in ids)
    return f"an id has at most {ID_CHARS_MAX} characters" if long else None


class Subscription(msgspec.Struct, frozen=True):
    """What a heartbeat may change. None: as before."""

    instance_id: str | None
    rack_id: str | None
    rebalance_timeout_s: float | None
    topics: frozenset[str] | None
    pattern: str | None
    assignor: str | None
    client_id: str
    client_host: str

    @property
    def size(self) -> int:
        """Characters that a member of it is kept with."""
        texts = (self.instance_id, self.rack_id, self.pattern, self.assignor, self.client_id, self.client_host)
        return sum([len(name) + 1 for name in self.topics or ()]) + sum([len(text) for text in texts if text])


class ConsumerMember:
    """Loop thread only. Owned by its group."""

    __slots__ = ("assigned", "assignor", "client_host", "client_id", "deadline_s", "epoch", "epoch_before",
                 "instance_id", "matched", "member_id", "pattern", "rack_id", "rebalance_timeout_s",
                 "rebalance_timer", "rebalance_until_s", "revoking", "size", "timer", "told", "topics")

    def __init__(self, member_id: str) -> None:
        self.member_id = member_id
        self.instance_id: str | None = None
        self.rack_id: str | None = None
        self.client_id = self.client_host = ""
        self.rebalance_timeout_s = 300.0
        self.topics: frozenset[str] = frozenset()
        self.pattern = ""
        self.size = 0                                   # of what it has said of itself
        self.matched: tuple[str, int, tuple[str, ...]] | None = None    # pattern, version of the topics, what matches
        self.assignor: str | None = None
        self.epoch = 0
        self.epoch_before = 0
        self.assigned: Partitions = set()               # it may read them
        self.revoking: Partitions = set()               # it has been told to give them up, and may still read them
        self.told: Partitions | None = None             # the assignment of the last answer
        self.timer: Timer | None = None
        self.deadline_s = 0.0                           # then its session is over
        self.rebalance_timer: Timer | None = None       # one at most, however many heartbeats say the same
        self.rebalance_until_s = 0.0                    # by then it has given up what it is to; 0: nothing

    def take(self, said: Subscription) -> bool:
        """What it says of itself. Returns whether it reads something else now."""
        before = self.topics, self.pattern, self.assignor
        self.size = max(self.size, said.size)
        self.client_id, self.client_host = said.client_id, said.client_host
        if said.instance_id is not None:
            self.instance_id = said.instance_id
        if said.rack_id is not None:
            self.rack_id = said.rack_id
        if said.rebalance_timeout_s is not None:
            self.rebalance_timeout_s = said.rebalance_timeout_s
        if said.topics is not None:
            self.topics = said.topics
        if said.pattern is not None:
            self.pattern = said.pattern
        if said.assignor is not None:
            self.assignor = said.assignor
        return before != (self.topics, self.pattern, self.assignor)

    def forget_assignment(self) -> None:
        self.epoch = self.epoch_before = 0
        self.assigned, self.revoking, self.told = set(), set(), None
        self.rebalance_until_s = 0.0


class StoredConsumerMember(msgspec.Struct, frozen=True, array_like=True):
    member_id: str
    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_s: float
    topics: tuple[str, ...]
    pattern: str
    assignor: str | None
    epoch: int
    epoch_before: int
    assigned: tuple[tuple[bytes, int], ...]
    revoking: tuple[tuple[bytes, int], ...]
    target: tuple[tuple[bytes, int], ...]


class StoredConsumerGroup(msgspec.Struct, frozen=True):
    owner: str
    epoch: int
    members: tuple[StoredConsumerMember, ...]
    topics: tuple[tuple[bytes, str, int], ...]          # id, name, partitions


def stored_member(member: ConsumerMember, target: Partitions) -> StoredConsumerMember:
    return StoredConsumerMember(
        member.member_id, member.instance_id, member.rack_id, member.client_id, member.client_host,
        member.rebalance_timeout_s, tuple(sorted(member.topics)), member.pattern, member.assignor, member.epoch,
        member.epoch_before, tuple(sorted(member.assigned)), tuple(sorted(member.revoking)), tuple(sorted(target)))


def restored_member(kept: StoredConsumerMember) -> ConsumerMember:
    member = ConsumerMember(kept.member_id)
    member.take(Subscription(kept.instance_id, kept.rack_id, kept.rebalance_timeout_s, frozenset(kept.topics),
                             kept.pattern, kept.assignor, kept.client_id, kept.client_host))
    member.epoch, member.epoch_before = kept.epoch, kept.epoch_before
    member.assigned, member.revoking = set(kept.assigned), set(kept.revoking)
    return member
