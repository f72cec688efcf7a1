"""ShareGroups: the share groups of a node. Members send heartbeats; what they read goes by the Consumer of the group's
name, which is opened here.                                                                             Source: KIP-932

So a group is in /v1/consumers with its lag, and a REST or AMQP consumer of its name takes from the same records. Where
it stands is the Consumer's to store; members join again after a crash.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from protocols.kafka.codec.errors import Code
from protocols.kafka.groups.assignors import Partitions
from protocols.kafka.groups.consumer_groups import JOIN, LEAVE, by_topic
from protocols.kafka.groups.coordinator import Coordinator
from protocols.kafka.groups.share_group import ShareGroup, ShareMember, StoredShareGroup
from protocols.kafka.runtime.timers import Timers
from protocols.kafka.settings import KafkaSettings
from protocols.kafka.sharing.options import HEARTBEAT, LOCK, SESSION, GroupOptions
from protocols.kafka.topics.table import Topics
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec
from routing.consumers.registry.registry import start_position
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity
from routing.router import Router
from routing.streams.streams import Stream
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer

PREFIX = "kafka-share-group/"
Values = Mapping[str, Any]
_TOO_MANY = Refusal(Reason.QUOTA_EXCEEDED, "the members of the group take from more partitions than they may")
_CODES = {Reason.NOT_AUTHORIZED: Code.GROUP_AUTHORIZATION_FAILED, Reason.CONFLICT: Code.GROUP_ID_NOT_FOUND,
          Reason.QUOTA_EXCEEDED: Code.GROUP_MAX_SIZE_REACHED}


class Said(msgspec.Struct, frozen=True):
    """What a heartbeat says of its sender. None: as before."""

    topics: frozenset[str] | None
    rack_id: str | None
    client_id: str
    client_host: str

    def size(self, member: ShareMember) -> int:
        """Characters that the member is kept with then."""
        topics = member.topics if self.topics is None else self.topics
        return sum([len(name) + 1 for name in topics]) + sum([len(text) for text in (
            member.member_id, self.rack_id or member.rack_id, self.client_id, self.client_host) if text])


class ShareGroups:
    """One per broker. Loop thread only."""

    def __init__(self, router: Router, topics: Topics, settings: KafkaSettings, timers: Timers, groups: Coordinator
                 ) -> None:
        self._router = router
        self._topics = topics
        self._settings = settings
        self._timers = timers
        self._groups = groups
        self.options = GroupOptions(router, settings)
        self.on_fenced: list[Callable[[str, str], None]] = []       # told of a group and a member whose session is over
        groups.on_deleted.append(self._deleted)
        for group_id, stored in router.state.decoded(PREFIX, StoredShareGroup, "a Kafka share group"):
            groups.adopt(group_id, stored.owner).share = ShareGroup(group_id, stored.epoch, stored.unset)

    def find(self, group_id: str) -> ShareGroup | None:
        group = self._groups.by_id.get(group_id)
        return group.share if group is not None else None

    def consumer(self, group_id: str) -> Consumer | None:
        """What it reads through; None: there is none (any more), or it is no share group."""
        return self._router.registry.by_name.get(group_id) if self.find(group_id) is not None else None

    def _store(self, found: ShareGroup) -> Ticket:
        group = self._groups.by_id.get(found.group_id)
        return self._router.state.put(PREFIX + found.group_id, msgspec.msgpack.encode(
            StoredShareGroup(group.owner if group is not None else "", found.epoch, tuple(found.unset))))

    def _deleted(self, group_id: str) -> None:
        if self._router.state.get(PREFIX + group_id) is not None:
            self._router.state.delete(PREFIX + group_id)

    # -- heartbeats -------------------------------------------------------------------------------------------

    def heartbeat(self, group_id: str, member_id: str, epoch: int, said: Said, identity: Identity
                  ) -> tuple[Values, list[Ticket]]:
        """The answer, and what is to be on disk before it is given."""
        group = self._groups.by_id.get(group_id) if epoch != JOIN else self._groups.open(group_id, identity)
        if isinstance(group, Code):
            return _error(group, "no room for more groups"), []
        if group is None:
            return _error(Code.UNKNOWN_MEMBER_ID, "there is no such group"), []
        if group.share is None:
            if not group.is_empty or self._groups.offsets.topics(group_id):
                return not_shared(group_id), []
            if epoch != JOIN:
                return _error(Code.UNKNOWN_MEMBER_ID, "it is no member"), []
            group.share = ShareGroup(group_id)
        found = group.share
        member = found.members.get(member_id)
        if epoch == LEAVE:
            if member is None:
                return _error(Code.UNKNOWN_MEMBER_ID, "it is no member"), []
            return {"member_id": member_id, "member_epoch": LEAVE}, [self._remove(found, member)]
        if member is None:
            if epoch != JOIN:
                return _error(Code.UNKNOWN_MEMBER_ID, "it is no member"), []
            if len(found.members) >= self._settings.group_members_max:
                return _error(Code.GROUP_MAX_SIZE_REACHED, "the group has as many members as it may"), []
            member = ShareMember(member_id)
        elif epoch not in (JOIN, member.epoch, member.epoch_before):
            return _error(Code.FENCED_MEMBER_EPOCH, "another epoch than that of the member"), []
        size = said.size(member)
        if size > member.size and (found.size - member.size + size > self._settings.group_metadata_bytes_max
                                   or not self._groups.hold(group, size - member.size)):
            return _error(Code.GROUP_MAX_SIZE_REACHED, "the members of the group say more than they may"), []
        return self._go_on(found, member, epoch, said, identity)

    def _go_on(self, found: ShareGroup, member: ShareMember, epoch: int, said: Said, identity: Identity
               ) -> tuple[Values, list[Ticket]]:
        is_new = found.members.get(member.member_id) is not member
        member.client_id, member.client_host = said.client_id, said.client_host
        member.rack_id = said.rack_id if said.rack_id is not None else member.rack_id
        before, size = member.topics, said.size(member)
        member.topics = said.topics if said.topics is not None else member.topics
        found.members[member.member_id] = member
        self._places(found, member)
        opened = _TOO_MANY if found.places_bytes() > self._settings.share_places_bytes_max else self._open_consumer(
            found, member, identity)
        if isinstance(opened, Refusal):
            member.topics = before
            if is_new:
                del found.members[member.member_id]
            return _error(_CODES.get(opened.reason, Code.COORDINATOR_NOT_AVAILABLE), opened.text), []
        member.size = size
        tickets = opened
        if self._look_again(found, member, changed=is_new or member.topics != before):
            found.epoch += 1
            tickets.append(self._store(found))
        if member.epoch != found.epoch:
            member.epoch_before, member.epoch = member.epoch, found.epoch
        self._session_goes_on(found, member)
        answer: dict[str, Any] = {
            "member_id": member.member_id, "member_epoch": member.epoch,
            "heartbeat_interval_ms": int(self.options.get(found.group_id, HEARTBEAT))}
        if epoch == JOIN or member.told != member.places:
            member.told = member.places
            answer["assignment"] = {"topic_partitions": by_topic(member.places)}
        return answer, tickets

    def _look_again(self, found: ShareGroup, member: ShareMember, *, changed: bool) -> bool:
        """Which partitions are there? Returns whether they, or what it reads, are not what they were."""
        if not changed and member.topics_seen == self._topics.version:
            return False
        before, member.topics_seen = member.places, self._topics.version
        member.places = self._places(found, member)
        return changed or before != member.places

    def _places(self, found: ShareGroup, member: ShareMember) -> Partitions:
        return found.places(member.topics, self._topics.version, lambda topics: {
            (self._topics.id_of(stream), partition.index)
            for stream in self._streams(topics) for partition in stream.partitions})

    def _streams(self, names: set[str] | frozenset[str]) -> list[Stream]:
        streams = [self._topics.find(name) for name in sorted(names)]
        return [stream for stream in streams if stream is not None]

    def _remove(self, found: ShareGroup, member: ShareMember) -> Ticket:
        self._timers.cancel(member.timer)
        del found.members[member.member_id]
        group = self._groups.by_id.get(found.group_id)
        if group is not None and not found.members:
            group.empty_since_s = self._router.clock_s()
        found.epoch += 1
        return self._store(found)

    # -- the Consumer -----------------------------------------------------------------------------------------

    def _open_consumer(self, found: ShareGroup, member: ShareMember, identity: Identity) -> list[Ticket] | Refusal:
        """It reads every topic that a member has named, where the group's options say when that is a new one."""
        registry = self._router.registry
        known = registry.by_name.get(found.group_id)
        if known is not None and known.spec.queue is not None:
            return Refusal(Reason.CONFLICT, f"{found.group_id} is a queue")
        streams = self._streams(member.topics)
        places = [partition for stream in streams for partition in stream.partitions]
        if not streams or (known is not None and known.spec.mode is Mode.SHARED
                           and all(place in known.cursors for place in places)):
            return self._begin_anew(found, known, streams)
        filters = [pattern for stream in streams for pattern in stream.filters]
        names = {stream.name for stream in streams}
        start = self.options.start(found.group_id)
        if known is None:
            spec = ConsumerSpec(
                found.group_id, tuple(dict.fromkeys(filters)), Mode.SHARED, start, tuple(sorted(names)),
                max_in_flight=self._settings.share_locks_max, ack_timeout_s=self.options.seconds(found.group_id, LOCK),
                max_deliveries=self._settings.share_deliveries_max, backoff_initial_s=0.0)
        else:                                       # a REST consumer, too, perhaps: it keeps its options
            spec = msgspec.structs.replace(
                known.spec, filters=tuple(dict.fromkeys([*known.filters, *filters])), mode=Mode.SHARED,
                streams=tuple(sorted({*known.spec.streams, *names})) if known.spec.streams else ())
        before = set(known.cursors) if known is not None else set()
        made = self._router.open_consumer(spec, identity)
        if isinstance(made, Refusal):
            return made
        if known is not None:
            made.move({place: start_position(place, start) for place in places if place not in before})
        ticket = registry.checkpoint(made)
        return [ticket] if ticket is not None else []

    def _begin_anew(self, found: ShareGroup, consumer: Consumer | None, streams: list[Stream]) -> list[Ticket]:
        """With topics whose offsets were deleted since they were read last."""
        unset = [stream for stream in streams if stream.name in found.unset]
        if not unset or consumer is None:
            return []
        start = self.options.start(found.group_id)
        consumer.seek({place: start_position(place, start) for stream in unset for place in stream.partitions})
        found.unset -= {stream.name for stream in unset}
        ticket = self._router.registry.checkpoint(consumer)
        return [self._store(found), *([ticket] if ticket is not None else [])]

    def delete_offsets(self, found: ShareGroup, topic: str) -> Ticket:
        """Who reads the topic next begins where the options of the group say, as if it never had."""
        found.unset.add(topic)
        return self._store(found)

    def options_changed(self, group_id: str) -> None:
        """How long a record is locked holds for what is handed out from now on."""
        consumer = self.consumer(group_id)
        lock_s = self.options.seconds(group_id, LOCK)
        if consumer is not None and consumer.spec.ack_timeout_s != lock_s:
            consumer.take_spec(msgspec.structs.replace(consumer.spec, ack_timeout_s=lock_s))
            self._router.registry.changed(consumer)

    # -- sessions ---------------------------------------------------------------------------------------------

    def _session_goes_on(self, found: ShareGroup, member: ShareMember) -> None:
        member.deadline_s = self._router.clock_s() + self.options.seconds(found.group_id, SESSION)
        if member.timer is None or member.timer.call is None:
            member.timer = self._timers.call_at(member.deadline_s, lambda: self._due(found, member))

    def _due(self, found: ShareGroup, member: ShareMember) -> None:
        member.timer = None
        if found.members.get(member.member_id) is not member or self.find(found.group_id) is not found:
            return
        if member.deadline_s > self._router.clock_s():
            member.timer = self._timers.call_at(member.deadline_s, lambda: self._due(found, member))
            return
        self._remove(found, member)
        for told in self.on_fenced:
            told(found.group_id, member.member_id)


def not_shared(group_id: str) -> Values:
    """The answer that clients know: there is no such group, or it is one of another kind."""
    return _error(Code.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a share group.")


def _error(code: Code, text: str) -> Values:
    return {"error_code": code, "error_message": text}
