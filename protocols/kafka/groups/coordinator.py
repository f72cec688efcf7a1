"""Coordinator: the groups of a node, and what their members ask. Every answer is that of the API, as a dict.

Sessions, rebalances and ids that were given out end by the broker's timers. What a group is while nothing moves in it
is stored (StateTable) before its members hear of it, so that they go on after a crash as if nothing had been.
Sources: KIP-62 (rebalance timeout), KIP-134 (initial delay), KIP-345 (static members), KIP-394 (member ids)
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from protocols.kafka.codec.errors import Code
from protocols.kafka.groups.group import Group, State
from protocols.kafka.groups.member import Joining, Member, StoredGroup
from protocols.kafka.groups.mirror import Mirror
from protocols.kafka.groups.offsets import Committed, Offsets
from protocols.kafka.runtime.tasks import Later
from protocols.kafka.runtime.timers import Timers
from protocols.kafka.settings import KafkaSettings
from protocols.kafka.topics.table import Topics
from routing.fairness.shares import Share
from routing.rights.policy import Action, Identity
from routing.router import Router
from routing.ticket import Ticket

GROUP_PREFIX = "kafka-group/"
GROUP_ID_BYTES_MAX = 1024
EXPIRE_EVERY_S = 60.0
Values = Mapping[str, Any]


class Coordinator:
    """One per broker. Loop thread only."""

    def __init__(self, router: Router, topics: Topics, settings: KafkaSettings, timers: Timers,
                 new_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self.by_id: dict[str, Group] = {}
        self.offsets = Offsets(router, timers, settings.offsets_bytes_max)
        self.mirror = Mirror(router, topics, self.offsets, timers, self._consumer_deleted)
        self._router = router
        self._topics = topics
        self._settings = settings
        self._expected: dict[str, Identity] = {}        # who commits offsets in a transaction
        router.transactions.on_stored.append(self._settled)
        self._timers = timers
        self.on_deleted: list[Callable[[str], None]] = []      # told of the id of a group that is forgotten
        self.on_committed: list[Callable[[str], None]] = []    # and of one whose offsets are not what they were
        self._new_id = new_id
        self._share = Share("Kafka groups", lambda: router.limits.user_share)
        self._bytes = Share("bytes of Kafka groups", lambda: router.limits.user_share)
        for group_id, stored in router.state.decoded(GROUP_PREFIX, StoredGroup, "a Kafka group"):
            group = self._add(group_id, stored.owner)
            group.restore(stored)
            for member in group.members.values():
                self._session_goes_on(group, member)
            self._recount(group)
        for group_id in self.offsets.groups():
            if group_id not in self.by_id:              # from outside only: who it is of stands in no record
                self._add(group_id, self._owner_of(group_id))
            self.offsets.belong(group_id, self.by_id[group_id].owner)
        self.mirror.start(self.offsets.groups())
        timers.call_at(router.clock_s() + EXPIRE_EVERY_S, self._expire)

    # -- groups -----------------------------------------------------------------------------------------------

    def committed(self, group_id: str, identity: Identity) -> None:
        """Offsets were committed."""
        group = self.by_id.get(group_id)
        if group is not None:
            self.offsets.belong(group_id, group.owner)
            group.empty_since_s = self._router.clock_s()
        for told in self.on_committed:
            told(group_id)
        self.mirror.committed(group_id, identity)

    def may_commit(self, group_id: str, topic: str, partition: int, committed: Committed) -> bool:
        """Whether there is room for it: what is there already may always be replaced."""
        group = self.by_id.get(group_id)
        return self.offsets.get(group_id, topic, partition) is not None or self.offsets.has_room(
            group.owner if group is not None else "", topic, committed)

    def expect(self, group_id: str, identity: Identity) -> None:
        """Offsets will be committed with a transaction."""
        self._expected[group_id] = identity

    def _settled(self, records: Mapping[str, bytes]) -> None:
        """A transaction has stored these records."""
        for group_id in self.offsets.take(records):
            identity = self._expected.pop(group_id, None)
            if identity is not None:
                self.committed(group_id, identity)

    def refuse_id(self, group_id: str) -> Code | None:
        good = 0 < len(group_id.encode()) <= GROUP_ID_BYTES_MAX and "\0" not in group_id
        return None if good else Code.INVALID_GROUP_ID

    def may_use(self, identity: Identity, group_id: str) -> bool:
        """Its owner; and who may read all that it reads, as with any consumer (routing/consumers/rights.py). A consumer
        or a queue of its name has an owner, too, who need not have heard of a group.
        """
        group, consumer = self.by_id.get(group_id), self._router.registry.by_name.get(group_id)
        rights = self._router.rights
        if consumer is not None and not (rights.owns(identity, consumer) or rights.may_share(identity, consumer)
                                         or self._topics.may(identity, Action.OPERATE)):
            return False
        if group is None or group.owner == identity.user or self._topics.may(identity, Action.OPERATE):
            return True
        names = self.offsets.topics(group_id)
        if group.share is not None:
            names = set(consumer.spec.streams) if consumer is not None else group.share.topics
        streams = [self._topics.find(topic) for topic in names]
        return bool(streams) and all(
            stream is not None and self._topics.may_read(identity, stream) for stream in streams)

    def may_change(self, identity: Identity, group_id: str) -> bool:
        """Delete it or its offsets: its owner, who is that of the consumer of its name, too; and who may operate."""
        if self._topics.may(identity, Action.OPERATE):
            return True
        group, consumer = self.by_id.get(group_id), self._router.registry.by_name.get(group_id)
        return (group is None or group.owner == identity.user) and (
            consumer is None or self._router.rights.may_change(identity, consumer))

    def may_see(self, identity: Identity, group_id: str) -> bool:
        return self.may_use(identity, group_id) or self._topics.may(identity, Action.VIEW)

    def open(self, group_id: str, identity: Identity) -> Group | Code:
        """Get or make a group."""
        group = self.by_id.get(group_id)
        if group is not None:
            return group
        if self._share.refuse(identity.user, self._settings.groups_max) is not None:
            return Code.GROUP_MAX_SIZE_REACHED
        return self._add(group_id, identity.user)

    def adopt(self, group_id: str, owner: str) -> Group:
        """A group that is stored elsewhere: after a start."""
        return self.by_id.get(group_id) or self._add(group_id, owner)

    def _add(self, group_id: str, owner: str) -> Group:
        group = self.by_id[group_id] = Group(group_id, owner)
        group.empty_since_s = self._router.clock_s()
        self._share.add(owner)
        return group

    def hold(self, group: Group, more: int) -> bool:
        """So many bytes more are to be kept of its members. False: there is no room for that."""
        self._recount(group)
        if more > 0 and self._bytes.take(group.owner, self._settings.groups_bytes_max, more) is not None:
            return False
        group.held_bytes += max(more, 0)
        return True

    def _recount(self, group: Group) -> None:
        """Count what it has now, whatever the ceiling says."""
        more = group.size_bytes - group.held_bytes
        group.held_bytes += more
        if more > 0:
            self._bytes.add(group.owner, more)
        elif more < 0:
            self._bytes.give(group.owner, -more)

    def delete(self, group_id: str) -> tuple[Code, Ticket | None]:
        """Forget a group without members, and its offsets. The ticket says when that is on disk."""
        group = self.by_id.get(group_id)
        if group is None:
            return Code.GROUP_ID_NOT_FOUND, None
        if group.members or not group.is_empty:
            return Code.NON_EMPTY_GROUP, None
        del self.by_id[group_id]
        self._share.give(group.owner)
        if group.held_bytes:
            self._bytes.give(group.owner, group.held_bytes)
        self._timers.cancel(group.rebalance)
        self._expected.pop(group_id, None)
        self.mirror.forget(group_id, group.owner)
        self.offsets.delete_group(group_id)
        for told in self.on_deleted:
            told(group_id)
        return Code.NONE, self._router.state.delete(GROUP_PREFIX + group_id)

    def drop(self, group_id: str) -> None:
        """Forget a group whoever is in it: another node has served it since, and its members know nothing of this one.
        """
        group = self.by_id[group_id]
        for member in list(group.members.values()):
            self._timers.cancel(member.timer)
            group.remove(member, Code.NOT_COORDINATOR)
        for timer in group.pending.values():
            self._timers.cancel(timer)
        group.pending.clear()
        group.state = State.EMPTY
        if group.consumer is not None:
            for consumer in list(group.consumer.members.values()):
                self._timers.cancel(consumer.timer)
                self._timers.cancel(consumer.rebalance_timer)
                group.consumer.remove(consumer)
        self.delete(group_id)

    def take_over(self, group_id: str, owner: str, generation: int) -> None:
        """A group that another node has served up to that generation: it is empty here, and its offsets follow."""
        if group_id in self.by_id:
            self.drop(group_id)
        group = self._add(group_id, owner)
        group.generation = generation + 1
        self._store(group)

    def _owner_of(self, group_id: str) -> str:
        consumer = self._router.registry.by_name.get(group_id)
        return consumer.identity.user if consumer is not None else ""

    def _consumer_deleted(self, name: str) -> None:
        """An operator has deleted the consumer that a group is: its offsets go, too, when nobody is a member."""
        group = self.by_id.get(name)
        if group is not None and group.is_empty:
            self.delete(name)

    def _expire(self) -> None:
        """Groups that have had no members for long are forgotten, with their offsets.          Source: KIP-211"""
        now_s = self._router.clock_s()
        self._timers.call_at(now_s + EXPIRE_EVERY_S, self._expire)
        for group_id, group in list(self.by_id.items()):
            if group.is_empty and (
                    now_s - group.empty_since_s > self._settings.offsets_retention_s):
                self.delete(group_id)

    def _store(self, group: Group, then: Callable[[], None] | None = None) -> None:
        """Store it; then is called when that is on disk, or the group has moved on."""
        self._recount(group)
        ticket = self._router.state.put(GROUP_PREFIX + group.group_id, msgspec.msgpack.encode(group.stored()))
        if then is not None:
            ticket.on_done(lambda _: then())

    # -- JoinGroup --------------------------------------------------------------------------------------------

    def join(self, group_id: str, joining: Joining, identity: Identity) -> Later[Values]:
        """A client joins, or joins again in a rebalance. The answer comes when the members are known."""
        later: Later[Values] = Later()
        answer = self._join(group_id, joining, identity, later)
        if answer is not None:
            later.set({"member_id": joining.member_id, **answer})
        return later

    def _join(self, group_id: str, joining: Joining, identity: Identity, later: Later[Values]) -> Values | None:
        settings = self._settings
        known = self.by_id.get(group_id)
        if known is None and joining.member_id:
            return _error(Code.UNKNOWN_MEMBER_ID)
        group = known or self.open(group_id, identity)
        if isinstance(group, Code):
            return _error(group)
        if group.share is not None or (group.consumer is not None and group.consumer.members):
            return _error(Code.INCONSISTENT_GROUP_PROTOCOL)
        if not group.fits(joining):
            return _error(Code.INCONSISTENT_GROUP_PROTOCOL)
        if group.bytes_with(joining) > settings.group_metadata_bytes_max:
            return _error(Code.GROUP_MAX_SIZE_REACHED)
        if not self.hold(group, sum(len(name) + len(metadata) for name, metadata in joining.protocols)):
            return _error(Code.GROUP_MAX_SIZE_REACHED)
        if not joining.member_id:
            return self._join_new(group, joining, later)
        if joining.member_id in group.pending:
            self._timers.cancel(group.pending.pop(joining.member_id))
            self._join_first(group, joining.member_id, joining, later)
            return None
        member = group.members.get(joining.member_id)
        if joining.instance_id is not None:
            holder = group.instances.get(joining.instance_id)
            if holder is None:
                return _error(Code.UNKNOWN_MEMBER_ID)
            if holder != joining.member_id:
                return _error(Code.FENCED_INSTANCE_ID)
        if member is None:
            return _error(Code.UNKNOWN_MEMBER_ID)
        return self._join_again(group, member, joining, later)

    def _join_new(self, group: Group, joining: Joining, later: Later[Values]) -> Values | None:
        """A client without an id."""
        member_id = f"{joining.instance_id or joining.client_id}-{self._new_id()}"
        if joining.instance_id is not None and joining.instance_id in group.instances:
            return self._come_back(group, member_id, joining, later)
        if len(group.members) + len(group.pending) >= self._settings.group_members_max:
            return _error(Code.GROUP_MAX_SIZE_REACHED)
        if joining.instance_id is None and joining.wants_known_id:
            group.pending[member_id] = self._timers.call_at(
                self._router.clock_s() + joining.session_timeout_s, lambda: self._never_came(group, member_id))
            return {"error_code": Code.MEMBER_ID_REQUIRED, "member_id": member_id}
        self._join_first(group, member_id, joining, later)
        return None

    def _join_first(self, group: Group, member_id: str, joining: Joining, later: Later[Values]) -> None:
        member = Member(member_id, joining)
        member.joins = later
        if group.state is State.EMPTY:
            group.first_join_until_s = self._router.clock_s() + joining.rebalance_timeout_s
        group.add(member, joining.protocol_type)
        self._rebalance(group)

    def _come_back(self, group: Group, member_id: str, joining: Joining, later: Later[Values]) -> Values | None:
        """A static member starts again: while nothing else has changed, nobody else hears of it."""
        assert joining.instance_id is not None
        old = group.members[group.instances[joining.instance_id]]
        same = old.metadata(group.protocol) == dict(joining.protocols).get(group.protocol)
        member = group.replace(old, member_id)
        member.take(joining)
        if group.state is State.STABLE and same:
            self._session_goes_on(group, member)
            self._store(group, lambda: later.set(group.joined(member, skip_assignment=True)))
            return None
        member.joins = later
        self._rebalance(group)
        return None

    def _join_again(self, group: Group, member: Member, joining: Joining, later: Later[Values]) -> Values | None:
        """Somebody who is a member already."""
        unchanged = member.protocols == joining.protocols
        if group.state is State.COMPLETING and unchanged:
            return group.joined(member)                 # the answer got lost
        if group.state is State.STABLE and unchanged and member.member_id != group.leader:
            return group.joined(member)
        if member.joins is not None:                    # it has given up waiting and asks again
            member.joins.set(_error(Code.REBALANCE_IN_PROGRESS))
        member.take(joining)
        member.joins = later
        self._rebalance(group)
        return None

    def _never_came(self, group: Group, member_id: str) -> None:
        """An id was given out and its client did not come back."""
        if group.pending.pop(member_id, None) is not None:
            self._maybe_complete(group)

    # -- a rebalance ------------------------------------------------------------------------------------------

    def _rebalance(self, group: Group) -> None:
        """Have everybody join; or see whether all have."""
        now_s = self._router.clock_s()
        if group.state is not State.PREPARING:
            was_empty = group.state is State.EMPTY
            group.begin()
            delay_s = group.rebalance_timeout_s()
            if was_empty:                               # who starts at the same time shall not cause a second one
                delay_s = min(self._settings.initial_rebalance_delay_s, delay_s)
            else:
                group.first_join_until_s = 0.0
            self._end_phase_at(group, now_s + delay_s)
        elif group.first_join_until_s:                  # another one within the delay: as long again
            delay_s = self._settings.initial_rebalance_delay_s
            self._end_phase_at(group, min(now_s + delay_s, group.first_join_until_s))
        self._maybe_complete(group)

    def _end_phase_at(self, group: Group, due_s: float) -> None:
        self._timers.cancel(group.rebalance)
        group.rebalance = self._timers.call_at(due_s, lambda: self._phase_over(group))

    def _maybe_complete(self, group: Group) -> None:
        if group.state is State.PREPARING and not group.first_join_until_s and group.all_joined:
            self._complete(group)

    def _phase_over(self, group: Group) -> None:
        group.rebalance = None
        if group.state is State.PREPARING:
            self._complete(group)
        elif group.state is State.COMPLETING:           # who has not asked for its assignment is gone
            for member in [each for each in group.members.values() if each.syncs is None]:
                group.remove(member)
                self._timers.cancel(member.timer)
            self._changed(group)

    def _complete(self, group: Group) -> None:
        """The join phase is over: who has not joined is out, but for static members, whose sessions decide."""
        group.first_join_until_s = 0.0
        self._timers.cancel(group.rebalance)
        group.rebalance = None
        for member in [each for each in group.members.values() if each.joins is None and each.instance_id is None]:
            self._timers.cancel(member.timer)
            group.remove(member)
        if not any(member.joins is not None for member in group.members.values()):
            if group.members:                           # static ones only, and none is here
                self._end_phase_at(group, self._router.clock_s() + group.rebalance_timeout_s())
            else:
                self._emptied(group)
            return
        joined = [member for member in group.members.values() if member.joins is not None]
        group.complete_join()
        for member in joined:
            self._session_goes_on(group, member)
        self._end_phase_at(group, self._router.clock_s() + group.rebalance_timeout_s())

    def _emptied(self, group: Group) -> None:
        group.state = State.EMPTY
        group.generation += 1
        group.leader = group.protocol = ""
        group.empty_since_s = self._router.clock_s()
        self._timers.cancel(group.rebalance)
        group.rebalance = None
        self._store(group)

    def _changed(self, group: Group) -> None:
        """A member has gone."""
        if group.state is State.PREPARING:
            if group.members or group.pending:
                self._maybe_complete(group)
            else:
                self._emptied(group)
        elif group.members:
            self._rebalance(group)
        elif group.state is not State.EMPTY:
            self._emptied(group)

    # -- SyncGroup, Heartbeat, LeaveGroup ---------------------------------------------------------------------

    def find(self, group_id: str, member_id: str, instance_id: str | None, generation: int | None
             ) -> tuple[Group, Member] | Code:
        """A member of a generation, or the error that it is to be told."""
        group = self.by_id.get(group_id)
        if group is None:
            return Code.UNKNOWN_MEMBER_ID
        if instance_id is not None:
            holder = group.instances.get(instance_id)
            if holder is None:
                return Code.UNKNOWN_MEMBER_ID
            if holder != member_id:
                return Code.FENCED_INSTANCE_ID
        member = group.members.get(member_id)
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        if generation is not None and generation != group.generation:
            return Code.ILLEGAL_GENERATION
        return group, member

    def sync(self, group_id: str, member_id: str, instance_id: str | None, generation: int,
             protocol: tuple[str | None, str | None], assignments: Iterable[tuple[str, bytes]]) -> Later[Values]:
        """A member wants its part. protocol: type and name as the client believes them, None where it does not say."""
        later: Later[Values] = Later()
        found = self.find(group_id, member_id, instance_id, generation)
        if isinstance(found, Code):
            later.set(_error(found))
            return later
        group, member = found
        believed_type, believed_name = protocol
        if believed_type not in (None, group.protocol_type) or believed_name not in (None, group.protocol):
            later.set(_error(Code.INCONSISTENT_GROUP_PROTOCOL))
        elif group.state is State.PREPARING:
            later.set(_error(Code.REBALANCE_IN_PROGRESS))
        elif group.state is State.STABLE:
            self._session_goes_on(group, member)
            later.set(group.synced(member))
        else:
            member.syncs = later
            if member_id == group.leader:
                given = dict(assignments)
                if not self.hold(group, sum(len(given.get(each, b"")) for each in group.members)):
                    member.syncs = None
                    later.set(_error(Code.GROUP_MAX_SIZE_REACHED))
                    return later
                self._assign(group, given.items())
        return later

    def _assign(self, group: Group, assignments: Iterable[tuple[str, bytes]]) -> None:
        group.assign(assignments)
        self._timers.cancel(group.rebalance)
        group.rebalance = None
        waiting = [(member, member.syncs) for member in group.members.values() if member.syncs is not None]
        answers = [(later, group.synced(member)) for member, later in waiting]
        for member, _ in waiting:
            member.syncs = None
            self._session_goes_on(group, member)

        def stored() -> None:
            for later, answer in answers:
                later.set(answer)

        self._store(group, stored)

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> Code:
        found = self.find(group_id, member_id, instance_id, generation)
        if isinstance(found, Code):
            return found
        group, member = found
        self._session_goes_on(group, member)
        return Code.REBALANCE_IN_PROGRESS if group.state is State.PREPARING else Code.NONE

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> Code:
        """By id, or by instance id alone, as an operator removes a static member."""
        group = self.by_id.get(group_id)
        if group is None:
            return Code.UNKNOWN_MEMBER_ID
        if member_id in group.pending:
            self._timers.cancel(group.pending.pop(member_id))
            self._changed(group)
            return Code.NONE
        if instance_id is not None:
            holder = group.instances.get(instance_id)
            if holder is None:
                return Code.UNKNOWN_MEMBER_ID
            if member_id not in ("", holder):
                return Code.FENCED_INSTANCE_ID
            member_id = holder
        member = group.members.get(member_id)
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        self._timers.cancel(member.timer)
        group.remove(member)
        self._changed(group)
        return Code.NONE

    # -- sessions ---------------------------------------------------------------------------------------------

    def _session_goes_on(self, group: Group, member: Member) -> None:
        """It was heard of. Its timer looks by itself whether that was so."""
        member.deadline_s = self._router.clock_s() + member.session_timeout_s
        if member.timer is None or member.timer.call is None:
            member.timer = self._timers.call_at(member.deadline_s, lambda: self._session_due(group, member))

    def _session_due(self, group: Group, member: Member) -> None:
        member.timer = None
        if group.members.get(member.member_id) is not member:
            return
        now_s = self._router.clock_s()
        if member.waits:
            member.deadline_s = now_s + member.session_timeout_s
        if member.deadline_s > now_s:
            member.timer = self._timers.call_at(member.deadline_s, lambda: self._session_due(group, member))
            return
        group.remove(member)
        self._changed(group)


def _error(code: Code) -> Values:
    return {"error_code": code}
