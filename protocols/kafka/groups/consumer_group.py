"""ConsumerGroup: a group whose members the node assigns partitions to. Sans-IO.                       Source: KIP-848

    who is in it, what they read, which partitions there are: when that changes, the epoch grows and there is a new
    target          what each member is to have
    assigned        what it may read now; on its way to the target it first gives up what others are to have:

        gives up ── it says that it no longer has them ──► takes what is free ── the others gave up theirs ──► all of it

A partition is never with two members: it is free when nobody has it assigned or is giving it up.
"""
from __future__ import annotations

import enum
from collections.abc import Mapping

from protocols.kafka.groups.assignors import ASSIGNORS, DEFAULT, Partitions
from protocols.kafka.groups.consumer_member import (
    LEFT_FOR_NOW,
    ConsumerMember,
    StoredConsumerGroup,
    restored_member,
    stored_member,
)


class State(enum.Enum):
    EMPTY = "Empty"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class ConsumerGroup:
    """Loop thread only."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 0
        self.members: dict[str, ConsumerMember] = {}
        self.instances: dict[str, str] = {}                 # instance id → member id
        self.target: dict[str, Partitions] = {}
        self.names: dict[bytes, str] = {}                   # of the topics that are read
        self.counts: dict[bytes, int] = {}                  # their partitions
        self.topics_seen = -1                               # which state of the node's topics that is of
        self._holders: dict[tuple[bytes, int], str] = {}    # partition → the member that has it, or gives it up

    @property
    def size(self) -> int:
        """Of what its members say of themselves."""
        return sum([member.size for member in self.members.values()])

    @property
    def state(self) -> State:
        if not self.members:
            return State.EMPTY
        settled = all(member.epoch in (self.epoch, LEFT_FOR_NOW) and not member.revoking
                      and member.assigned == self.target.get(member.member_id, set())
                      for member in self.members.values())
        return State.STABLE if settled else State.RECONCILING

    @property
    def assignor(self) -> str:
        """That which most members want."""
        wanted = [member.assignor for member in self.members.values() if member.assignor]
        return max(sorted(set(wanted)), key=wanted.count) if wanted else DEFAULT

    # -- who is in it -----------------------------------------------------------------------------------------

    def add(self, member: ConsumerMember) -> None:
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.instances[member.instance_id] = member.member_id

    def remove(self, member: ConsumerMember) -> None:
        self.members.pop(member.member_id, None)
        self.target.pop(member.member_id, None)
        if member.instance_id is not None and self.instances.get(member.instance_id) == member.member_id:
            del self.instances[member.instance_id]
        self._release(member, member.assigned | member.revoking)

    def replace(self, old: ConsumerMember, member: ConsumerMember) -> None:
        """A static member is back, under another id: it has what it had."""
        target = self.target.pop(old.member_id, set())
        del self.members[old.member_id]
        member.assigned = old.assigned
        self._holders.update(dict.fromkeys(old.assigned, member.member_id))
        self._release(old, old.revoking)
        self.add(member)
        self.target[member.member_id] = target

    def forget_assignment(self, member: ConsumerMember) -> None:
        """It has lost what it had, and begins anew."""
        self._release(member, member.assigned | member.revoking)
        member.forget_assignment()

    # -- the target -------------------------------------------------------------------------------------------

    def set_target(self, names: Mapping[bytes, str], counts: Mapping[bytes, int],
                   subscriptions: Mapping[str, frozenset[bytes]]) -> None:
        """Something has changed: a new epoch and a new target."""
        self.names, self.counts = dict(names), dict(counts)
        self.epoch += 1
        before = {member_id: self.target.get(member_id, set()) for member_id in self.members}
        self.target = ASSIGNORS[self.assignor](subscriptions, counts, before) if self.members else {}

    # -- on the way to it -------------------------------------------------------------------------------------

    def reconcile(self, member: ConsumerMember, owned: Partitions | None) -> None:
        """One more step of a member. owned: what it says it has; None: it does not say."""
        if member.revoking:
            if owned is None or owned & member.revoking:
                return                                      # it still has some of them
            self._release(member, member.revoking)
            member.revoking = set()
        target = self.target.get(member.member_id, set())
        leaving = member.assigned - target
        if leaving:
            member.assigned = member.assigned & target
            if member.epoch != 0 and (owned is None or owned & leaving):
                member.revoking = leaving
                return
            self._release(member, leaving)
        coming = {place for place in target - member.assigned if place not in self._holders}
        for place in coming:
            self._holders[place] = member.member_id
        member.assigned = member.assigned | coming
        if member.epoch != self.epoch:
            member.epoch_before, member.epoch = member.epoch, self.epoch

    def _release(self, member: ConsumerMember, places: Partitions) -> None:
        for place in places:
            if self._holders.get(place) == member.member_id:
                del self._holders[place]

    # -- what is stored ---------------------------------------------------------------------------------------

    def stored(self, owner: str) -> StoredConsumerGroup:
        return StoredConsumerGroup(owner, self.epoch, tuple(
            stored_member(member, self.target.get(member.member_id, set())) for member in self.members.values()), tuple(
            (topic_id, name, self.counts[topic_id]) for topic_id, name in self.names.items()))

    def restore(self, stored: StoredConsumerGroup) -> None:
        self.epoch = stored.epoch
        self.names = {topic_id: name for topic_id, name, _ in stored.topics}
        self.counts = {topic_id: count for topic_id, _, count in stored.topics}
        for kept in stored.members:
            member = restored_member(kept)
            self.add(member)
            self.target[member.member_id] = set(kept.target)
            self._holders.update(dict.fromkeys(member.assigned | member.revoking, member.member_id))
