"""ConsumerGroups: the consumer groups of a node, whose members only send heartbeats.                  Source: KIP-848

A group is stored before its members hear of a change, so that they go on after a crash as if nothing had been. Owner,
offsets and rights are those of the classic groups (coordinator.py): an empty group may become one of the other kind.
"""
from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from protocols.kafka.codec.errors import Code
from protocols.kafka.groups.assignors import ASSIGNORS, Partitions
from protocols.kafka.groups.consumer_group import ConsumerGroup
from protocols.kafka.groups.consumer_member import LEFT_FOR_NOW, ConsumerMember, StoredConsumerGroup, Subscription
from protocols.kafka.groups.coordinator import Coordinator
from protocols.kafka.groups.group import Group
from protocols.kafka.groups.patterns import BadPattern, compile_pattern
from protocols.kafka.runtime.timers import Timers
from protocols.kafka.settings import KafkaSettings
from protocols.kafka.topics.table import Topics
from routing.rights.policy import Identity
from routing.router import Router
from routing.ticket import Ticket

PREFIX = "kafka-consumer-group/"
LARGE = 50              # members: some 0.3 ms to encode
STORE_S = 0.1
JOIN, LEAVE = 0, -1
Values = Mapping[str, Any]


class ConsumerGroups:
    """One per broker. Loop thread only."""

    def __init__(self, router: Router, topics: Topics, settings: KafkaSettings, timers: Timers, groups: Coordinator
                 ) -> None:
        self._router = router
        self._topics = topics
        self._settings = settings
        self._timers = timers
        self._groups = groups
        self._waiting: dict[str, Ticket] = {}               # of large groups that are to be stored
        groups.on_deleted.append(self._deleted)
        for group_id, stored in router.state.decoded(PREFIX, StoredConsumerGroup, "a Kafka consumer group"):
            found = ConsumerGroup(group_id)
            found.restore(stored)
            groups.adopt(group_id, stored.owner).consumer = found
            for member in found.members.values():
                self._session_goes_on(found, member)

    def find(self, group_id: str) -> ConsumerGroup | None:
        """A consumer group, also an empty one that was one last."""
        group = self._groups.by_id.get(group_id)
        return group.consumer if group is not None else None

    def store(self, found: ConsumerGroup) -> Ticket:
        """A large group is stored some times a second: all that has changed until then is one write."""
        if len(found.members) < LARGE:
            return self._store(found)
        ticket = self._waiting.get(found.group_id)
        if ticket is None:
            ticket = self._waiting[found.group_id] = Ticket(())
            self._timers.call_at(self._router.clock_s() + STORE_S, lambda: self._store_late(found))
        return ticket

    def _store(self, found: ConsumerGroup) -> Ticket:
        group = self._groups.by_id.get(found.group_id)
        owner = group.owner if group is not None else ""
        return self._router.state.put(PREFIX + found.group_id, msgspec.msgpack.encode(found.stored(owner)))

    def _store_late(self, found: ConsumerGroup) -> None:
        waiting = self._waiting.pop(found.group_id)
        if self.find(found.group_id) is not found:
            waiting.part_done()                             # it was deleted meanwhile
            return

        def stored(ticket: Ticket) -> None:
            waiting.refusals.update(ticket.refusals)
            waiting.part_done()

        self._store(found).on_done(stored)

    def _deleted(self, group_id: str) -> None:
        if self._router.state.get(PREFIX + group_id) is not None:
            self._router.state.delete(PREFIX + group_id)

    # -- heartbeats -------------------------------------------------------------------------------------------

    def heartbeat(self, group_id: str, member_id: str, epoch: int, said: Subscription, owned: Partitions | None,
                  identity: Identity) -> tuple[Values, ConsumerGroup | None]:
        """The answer, and the group when it has changed and is to be stored first."""
        group = self._groups.by_id.get(group_id) if epoch != JOIN else self._groups.open(group_id, identity)
        if isinstance(group, Code):
            return _error(group, "no room for more groups"), None
        if group is None:
            return _error(Code.UNKNOWN_MEMBER_ID, "there is no such group"), None
        if group.members or group.pending or group.share is not None:
            return _error(Code.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group."), None
        found = group.consumer
        if found is None:
            if epoch != JOIN:
                return _error(Code.UNKNOWN_MEMBER_ID, "it is no member"), None
            found = group.consumer = ConsumerGroup(group_id)
        if epoch in (LEAVE, LEFT_FOR_NOW):
            return self._leave(group, found, member_id, epoch, said.instance_id)
        member = self._member(group, found, member_id, epoch, said, owned)
        if isinstance(member, Code):
            return _error(member, _TEXTS.get(member)), None
        return self._go_on(found, member, epoch, said, owned, identity)

    def _member(self, group: Group, found: ConsumerGroup, member_id: str, epoch: int, said: Subscription,
                owned: Partitions | None) -> ConsumerMember | Code:
        """Who sends this, a new member if he joins; or why he is none."""
        if said.instance_id is not None:
            holder = found.instances.get(said.instance_id)
            if epoch == JOIN and holder is not None and holder != member_id:
                return self._come_back(found, found.members[holder], member_id)
            if epoch != JOIN and holder is None:
                return Code.UNKNOWN_MEMBER_ID
            if epoch != JOIN and holder != member_id:
                return Code.FENCED_INSTANCE_ID
        member = found.members.get(member_id)
        if member is None:
            if epoch != JOIN:
                return Code.UNKNOWN_MEMBER_ID
            if len(found.members) >= self._settings.group_members_max or self._is_too_much(group, found, 0, said):
                return Code.GROUP_MAX_SIZE_REACHED
            return ConsumerMember(member_id)
        if self._is_too_much(group, found, member.size, said):
            return Code.GROUP_MAX_SIZE_REACHED
        if epoch == JOIN or epoch == member.epoch:
            return member
        lost_an_answer = epoch == member.epoch_before and owned is not None and owned <= member.assigned
        return member if lost_an_answer else Code.FENCED_MEMBER_EPOCH

    def _is_too_much(self, group: Group, found: ConsumerGroup, before: int, said: Subscription) -> bool:
        """Do its members say more of themselves than may be kept? before: what this one said already."""
        return said.size > before and (
            found.size - before + said.size > self._settings.group_metadata_bytes_max
            or not self._groups.hold(group, said.size - before))

    def _come_back(self, found: ConsumerGroup, old: ConsumerMember, member_id: str) -> ConsumerMember | Code:
        """A static member starts again."""
        if old.epoch != LEFT_FOR_NOW:
            return Code.UNRELEASED_INSTANCE_ID
        member = ConsumerMember(member_id)
        member.instance_id = old.instance_id
        member.topics, member.pattern, member.assignor = old.topics, old.pattern, old.assignor
        found.replace(old, member)
        self._timers.cancel(old.timer)
        self._timers.cancel(old.rebalance_timer)
        return member

    def _go_on(self, found: ConsumerGroup, member: ConsumerMember, epoch: int, said: Subscription,
               owned: Partitions | None, identity: Identity) -> tuple[Values, ConsumerGroup | None]:
        before = found.epoch, member.epoch, member.assigned, member.revoking
        is_new = member.member_id not in found.members
        changed = member.take(said)
        if is_new:
            found.add(member)
        changed = self._match(member, identity) or changed
        if is_new or changed or found.topics_seen != self._topics.version:
            self._look_again(found, changed=is_new or changed)
        found.reconcile(member, owned)
        now_s = self._router.clock_s()
        if not member.revoking:
            member.rebalance_until_s = 0.0
            self._timers.cancel(member.rebalance_timer)
        elif not member.rebalance_until_s:
            member.rebalance_until_s = now_s + member.rebalance_timeout_s
            self._timers.cancel(member.rebalance_timer)
            member.rebalance_timer = self._timers.call_at(
                member.rebalance_until_s, lambda: self._rebalance_due(found, member))
        self._session_goes_on(found, member)
        is_full = epoch == JOIN or (said.rebalance_timeout_s is not None and owned is not None)
        answer: dict[str, Any] = {"member_id": member.member_id, "member_epoch": member.epoch,
                                  "heartbeat_interval_ms": self._settings.consumer_heartbeat_interval_ms}
        if is_full or member.told != member.assigned:
            member.told = set(member.assigned)
            answer["assignment"] = {"topic_partitions": by_topic(member.assigned)}
        is_other = is_new or before != (found.epoch, member.epoch, member.assigned, member.revoking)
        return answer, found if is_other or changed else None

    def _leave(self, group: Group, found: ConsumerGroup, member_id: str, epoch: int, instance_id: str | None
               ) -> tuple[Values, ConsumerGroup | None]:
        member = found.members.get(member_id)
        if member is None:
            return _error(Code.UNKNOWN_MEMBER_ID, "it is no member"), None
        if instance_id is not None and found.instances.get(instance_id) != member_id:
            return _error(Code.FENCED_INSTANCE_ID, "another member has this instance id"), None
        if epoch == LEFT_FOR_NOW:                           # its partitions wait for it until its session is over
            member.epoch = member.epoch_before = LEFT_FOR_NOW
            self._session_goes_on(found, member)
        else:
            self._remove(group, found, member)
        return {"member_id": member_id, "member_epoch": epoch}, found

    def _remove(self, group: Group, found: ConsumerGroup, member: ConsumerMember) -> None:
        self._timers.cancel(member.timer)
        self._timers.cancel(member.rebalance_timer)
        found.remove(member)
        if not found.members:
            group.empty_since_s = self._router.clock_s()
        self._look_again(found, changed=True)

    # -- what there is to read --------------------------------------------------------------------------------

    def _match(self, member: ConsumerMember, identity: Identity) -> bool:
        """The topics of a pattern, as far as he may read them. Returns whether they are others than before."""
        if not member.pattern:
            return False
        if member.matched is None or member.matched[:2] != (member.pattern, self._topics.version):
            pattern = compile_pattern(member.pattern)
            member.matched = member.pattern, self._topics.version, tuple(
                [stream.name for stream in self._topics if pattern.fullmatch(stream.name)])
        streams = [self._topics.find(name) for name in member.matched[2]]
        topics = frozenset(stream.name for stream in streams
                           if stream is not None and self._topics.may_read(identity, stream))
        changed = topics != member.topics
        member.topics = topics
        return changed

    def _look_again(self, found: ConsumerGroup, *, changed: bool) -> None:
        """Which partitions are there? A new target if that is something else, or the members are."""
        found.topics_seen = self._topics.version
        names: dict[bytes, str] = {}
        counts: dict[bytes, int] = {}
        ids: dict[str, bytes] = {}
        for name in set().union(*(member.topics for member in found.members.values())):
            stream = self._topics.find(name)
            if stream is not None:
                ids[name] = topic_id = self._topics.id_of(stream)
                names[topic_id], counts[topic_id] = name, len(stream.partitions)
        if changed or counts != found.counts:
            found.set_target(names, counts, {
                member_id: frozenset(ids[name] for name in member.topics if name in ids)
                for member_id, member in found.members.items()})

    # -- sessions ---------------------------------------------------------------------------------------------

    def _session_goes_on(self, found: ConsumerGroup, member: ConsumerMember) -> None:
        member.deadline_s = self._router.clock_s() + self._settings.consumer_session_timeout_ms / 1000
        if member.timer is None or member.timer.call is None:
            member.timer = self._timers.call_at(member.deadline_s, lambda: self._due(found, member))

    def _due(self, found: ConsumerGroup, member: ConsumerMember) -> None:
        member.timer = None
        if found.members.get(member.member_id) is not member:
            return
        if member.deadline_s > self._router.clock_s():
            member.timer = self._timers.call_at(member.deadline_s, lambda: self._due(found, member))
        else:
            self._fence(found, member)

    def _rebalance_due(self, found: ConsumerGroup, member: ConsumerMember) -> None:
        """It has not given up in time what others are to have."""
        if found.members.get(member.member_id) is member and (
                0 < member.rebalance_until_s <= self._router.clock_s()):
            self._fence(found, member)

    def _fence(self, found: ConsumerGroup, member: ConsumerMember) -> None:
        group = self._groups.by_id.get(found.group_id)
        if group is not None and group.consumer is found:
            self._remove(group, found, member)
            self.store(found)

    # -- commits ----------------------------------------------------------------------------------------------

    def refuse_member(self, group_id: str, member_id: str, epoch: int) -> Code | None:
        """May this member commit and ask for offsets? None: it is no group of this kind, or nobody is in it."""
        found = self.find(group_id)
        if found is None or not found.members:
            return None
        member = found.members.get(member_id)
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        return Code.NONE if epoch == member.epoch else Code.STALE_MEMBER_EPOCH


_TEXTS = {
    Code.UNKNOWN_MEMBER_ID: "it is no member", Code.FENCED_MEMBER_EPOCH: "another epoch than that of the member",
    Code.FENCED_INSTANCE_ID: "another member has this instance id",
    Code.UNRELEASED_INSTANCE_ID: "a member with this instance id is there",
    Code.GROUP_MAX_SIZE_REACHED: "the group has as many members as it may"}


def _error(code: Code, text: str | None) -> Values:
    return {"error_code": code, "error_message": text}


def by_topic(places: Partitions) -> list[dict[str, Any]]:
    found: dict[bytes, list[int]] = {}
    for topic_id, index in sorted(places):
        found.setdefault(topic_id, []).append(index)
    return [{"topic_id": topic_id, "partitions": indexes} for topic_id, indexes in found.items()]


def new_member_id() -> str:
    return secrets.token_urlsafe(16)


def refuse_subscription(said: Subscription) -> tuple[Code, str] | None:
    if said.assignor is not None and said.assignor not in ASSIGNORS:
        return Code.UNSUPPORTED_ASSIGNOR, f"assignors are {', '.join(ASSIGNORS)}"
    if said.pattern:
        try:
            compile_pattern(said.pattern)
        except BadPattern as error:
            return Code.INVALID_REGULAR_EXPRESSION, str(error)
    return None
