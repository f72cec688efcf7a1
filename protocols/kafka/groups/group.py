"""Group: the state machine of one classic group. Sans-IO: time and timers come from the coordinator.

            join                    all have joined, or time is up          the leader's assignments
    EMPTY ───────► PREPARING ──────────────────────────────► COMPLETING ─────────────────────────► STABLE
      ▲               ▲  ▲                                      │ join, leave, end of a session       │
      └── nobody left ┘  └──────────────────────────────────────┴──────────────────────────────────────┘

Assignments and what members say of themselves are bytes that only the members understand: consumers, Connect workers
and schema registries alike.                    Sources: Kafka documentation, "Protocol"; KIP-62, 134, 345, 394, 814
"""
from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from protocols.kafka.codec.errors import Code
from protocols.kafka.groups.consumer_group import ConsumerGroup
from protocols.kafka.groups.member import Joining, Member, StoredGroup, StoredMember
from protocols.kafka.groups.share_group import ShareGroup
from protocols.kafka.runtime.timers import Timer

Values = Mapping[str, Any]


class State(enum.Enum):
    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


CLASSIC, CONSUMER, SHARE = "classic", "consumer", "share"      # kinds of groups: KIP-848, KIP-932


class Group:
    """Loop thread only. Members, generation and who waits for what; the coordinator moves it."""

    def __init__(self, group_id: str, owner: str) -> None:
        self.group_id = group_id
        self.owner = owner                              # the user who made it
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol = ""                              # the one that all members have, once they have agreed
        self.leader = ""
        self.members: dict[str, Member] = {}
        self.instances: dict[str, str] = {}             # instance id → member id
        self.pending: dict[str, Timer] = {}             # ids that were given out and not yet come back
        self.rebalance: Timer | None = None             # then the join phase, or the sync phase, is over
        self.first_join_until_s = 0.0                   # of a group that was empty: who comes by then joins in
        self.empty_since_s = 0.0
        self.held_bytes = 0                             # in its owner's share
        self.consumer: ConsumerGroup | None = None      # when the node assigns its partitions (KIP-848)
        self.share: ShareGroup | None = None            # when its members share records (KIP-932); it stays one then

    @property
    def is_empty(self) -> bool:
        """Nobody is in it, nor about to be."""
        return self.state is State.EMPTY and not self.pending and (
            self.consumer is None or not self.consumer.members) and (self.share is None or not self.share.members)

    @property
    def shown(self) -> tuple[str, str, str]:
        """What it is for clients and operators now: kind, state and type of the protocol."""
        if self.share is not None:
            return SHARE, self.share.state, SHARE
        if self.consumer is not None and not self.members:
            return CONSUMER, self.consumer.state.value, CONSUMER
        return CLASSIC, self.state.value, self.protocol_type

    # -- who may join -----------------------------------------------------------------------------------------

    def fits(self, joining: Joining) -> bool:
        """Does it speak a protocol that all members speak?"""
        if not joining.protocol_type or not joining.protocols:
            return False
        others = [member for member in self.members.values() if member.member_id != joining.member_id
                  and (joining.instance_id is None or member.instance_id != joining.instance_id)]
        if not others:
            return True
        names = {name for name, _ in joining.protocols}
        return joining.protocol_type == self.protocol_type and bool(
            names.intersection(*({name for name, _ in member.protocols} for member in others)))

    def bytes_with(self, joining: Joining) -> int:
        own = sum(len(name) + len(metadata) for name, metadata in joining.protocols)
        return own + sum(member.size_bytes for member in self.members.values() if member.member_id != joining.member_id)

    @property
    def size_bytes(self) -> int:
        """What its members say of themselves, and are assigned. Of all kinds of groups."""
        size = sum(member.size_bytes + len(member.assignment) for member in self.members.values())
        size += self.consumer.size if self.consumer is not None else 0
        return size + (self.share.size if self.share is not None else 0)

    def add(self, member: Member, protocol_type: str) -> None:
        if not self.members:
            self.protocol_type = protocol_type
        if not self.leader:
            self.leader = member.member_id
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.instances[member.instance_id] = member.member_id

    def remove(self, member: Member, code: Code = Code.UNKNOWN_MEMBER_ID) -> None:
        """It is no member any more; what it waits for is answered with the code."""
        self.members.pop(member.member_id, None)
        if member.instance_id is not None and self.instances.get(member.instance_id) == member.member_id:
            del self.instances[member.instance_id]
        if self.leader == member.member_id:
            self.leader = next(iter(self.members), "")
        for later in (member.joins, member.syncs):
            if later is not None:
                later.set({"error_code": code, "member_id": member.member_id})
        member.joins = member.syncs = None

    def replace(self, old: Member, member_id: str) -> Member:
        """A static member has come back and gets another id; the one that it had is fenced.       Source: KIP-345"""
        was_leader = self.leader == old.member_id
        if old.joins is not None:
            old.joins.set({"error_code": Code.FENCED_INSTANCE_ID, "member_id": old.member_id})
        if old.syncs is not None:
            old.syncs.set({"error_code": Code.FENCED_INSTANCE_ID})
        old.joins = old.syncs = None
        members = {}
        for known_id, member in self.members.items():       # it keeps its place
            members[member_id if member is old else known_id] = member
        self.members = members
        old.member_id = member_id
        if old.instance_id is not None:
            self.instances[old.instance_id] = member_id
        if was_leader:
            self.leader = member_id
        return old

    # -- a rebalance ------------------------------------------------------------------------------------------

    @property
    def all_joined(self) -> bool:
        return not self.pending and all(member.joins is not None for member in self.members.values())

    def rebalance_timeout_s(self) -> float:
        return max((member.rebalance_timeout_s for member in self.members.values()), default=0.0)

    def begin(self) -> None:
        """Everybody has to join again."""
        if self.state is State.COMPLETING:
            self.answer_syncs(lambda member: {"error_code": Code.REBALANCE_IN_PROGRESS})
        self.state = State.PREPARING

    def choose_protocol(self) -> str:
        """That which most members like best, of those that all have."""
        names = set.intersection(*({name for name, _ in member.protocols} for member in self.members.values()))
        votes = Counter(next(name for name, _ in member.protocols if name in names) for member in self.members.values())
        return votes.most_common(1)[0][0]

    def complete_join(self) -> None:
        """All members are there: a new generation. Everybody is answered; the leader assigns."""
        if self.members[self.leader].joins is None:
            self.leader = next(
                (member.member_id for member in self.members.values() if member.joins is not None), self.leader)
        self.generation += 1
        self.protocol = self.choose_protocol()
        self.state = State.COMPLETING
        for member in self.members.values():
            member.assignment = b""
            later, member.joins = member.joins, None
            if later is not None:
                later.set(self.joined(member))

    def joined(self, member: Member, *, skip_assignment: bool = False) -> Values:
        """The answer to JoinGroup."""
        is_leader = member.member_id == self.leader
        return {
            "error_code": Code.NONE, "generation_id": self.generation, "protocol_type": self.protocol_type,
            "protocol_name": self.protocol, "leader": self.leader, "member_id": member.member_id,
            "skip_assignment": skip_assignment and is_leader,
            "members": [
                {"member_id": other.member_id, "group_instance_id": other.instance_id,
                 "metadata": other.metadata(self.protocol)}
                for other in self.members.values()] if is_leader else []}

    def assign(self, assignments: Iterable[tuple[str, bytes]]) -> None:
        """The leader has decided; who is not named gets nothing, which is legal."""
        given = dict(assignments)
        for member in self.members.values():
            member.assignment = given.get(member.member_id, b"")
        self.state = State.STABLE

    def synced(self, member: Member) -> Values:
        """The answer to SyncGroup."""
        return {"error_code": Code.NONE, "protocol_type": self.protocol_type, "protocol_name": self.protocol,
                "assignment": member.assignment}

    def answer_syncs(self, answer: Any) -> None:
        for member in self.members.values():
            later, member.syncs = member.syncs, None
            if later is not None:
                later.set(answer(member))

    # -- what is stored ---------------------------------------------------------------------------------------

    def stored(self) -> StoredGroup:
        return StoredGroup(self.owner, self.generation, self.protocol_type, self.protocol, self.leader, tuple(
            StoredMember(member.member_id, member.instance_id, member.client_id, member.client_host,
                         member.session_timeout_s, member.rebalance_timeout_s, member.protocols, member.assignment)
            for member in self.members.values()))

    def restore(self, stored: StoredGroup) -> None:
        self.generation = stored.generation
        self.protocol_type = stored.protocol_type
        self.protocol = stored.protocol
        self.leader = stored.leader
        for kept in stored.members:
            member = Member(kept.member_id, Joining(
                kept.member_id, kept.instance_id, kept.client_id, kept.client_host, kept.session_timeout_s,
                kept.rebalance_timeout_s, stored.protocol_type, kept.protocols, True))
            member.assignment = kept.assignment
            self.add(member, stored.protocol_type)
        self.leader = stored.leader
        self.state = State.STABLE if self.members else State.EMPTY
