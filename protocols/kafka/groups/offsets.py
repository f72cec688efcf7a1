"""Offsets: how far groups have read, durable before it is acked. By group, topic and partition."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import msgspec

from protocols.kafka.runtime.timers import Timers
from routing.fairness.shares import Share
from routing.router import Router
from routing.ticket import Ticket

OFFSET_PREFIX = "kafka-offset/"
OFFSET_BYTES = 200          # that one takes beside its names and metadata
DELETED_PER_TURN = 100


class Committed(msgspec.Struct, frozen=True, array_like=True):
    """metadata comes back to the client as it was."""

    offset: int
    epoch: int
    metadata: str | None
    at_ms: int


class Offsets:
    """One per coordinator. Loop thread only. A topic that is deleted takes its offsets with it: one that is made again
    under its name begins anew, and so do its readers.                                  Source: Kafka, KIP-516
    """

    def __init__(self, router: Router, timers: Timers, bytes_max: int) -> None:
        """bytes_max: of all of them; a user has a share of it."""
        self._bytes_max = bytes_max
        self._bytes = Share("bytes of committed offsets", lambda: router.limits.user_share)
        self._held: dict[str, tuple[str, int]] = {}                         # group → its owner, and bytes in his share
        self._router = router
        self._state = router.state
        self._timers = timers
        self._by_topic: dict[str, dict[str, dict[int, Committed]]] = {}     # topic, group, partition
        self._topics_of: dict[str, set[str]] = {}                           # of a group; perhaps some that are gone
        self._gone: deque[tuple[str, str, int]] = deque()                   # whose records are to be deleted
        for key, committed in router.state.decoded(OFFSET_PREFIX, Committed, "an offset of a Kafka group"):
            self._set(*_place(key), committed)
        router.on_streams.append(self._forget_deleted)
        timers.call_at(router.clock_s(), self._forget_deleted)              # once all streams are open

    def _set(self, group_id: str, topic: str, partition: int, committed: Committed) -> None:
        of_group = self._by_topic.setdefault(topic, {}).setdefault(group_id, {})
        before = of_group.get(partition)
        of_group[partition] = committed
        self._count(group_id, _size(topic, committed) - (_size(topic, before) if before is not None else 0))
        self._topics_of.setdefault(group_id, set()).add(topic)

    def _count(self, group_id: str, more: int) -> None:
        owner, held = self._held.get(group_id, ("", 0))
        self._held[group_id] = owner, held + more
        if more > 0:
            self._bytes.add(owner, more)
        elif more < 0:
            self._bytes.give(owner, -more)
        if not held + more:
            del self._held[group_id]

    def belong(self, group_id: str, owner: str) -> None:
        """The group is this user's."""
        before, held = self._held.get(group_id, ("", 0))
        if held and before != owner:
            self._bytes.give(before, held)
            self._bytes.add(owner, held)
            self._held[group_id] = owner, held

    def has_room(self, owner: str, topic: str, committed: Committed) -> bool:
        """For one more of this user's."""
        return self._bytes.refuse(owner, self._bytes_max, _size(topic, committed)) is None

    def groups(self) -> list[str]:
        """Those that have committed."""
        return list(self._topics_of)

    def committed_topics(self) -> list[str]:
        """In which some group has an offset."""
        return list(self._by_topic)

    def commit(self, group_id: str, topic: str, partition: int, committed: Committed) -> Ticket:
        self._set(group_id, topic, partition, committed)
        return self._state.put(_key(group_id, topic, partition), msgspec.msgpack.encode(committed))

    def record(self, group_id: str, topic: str, partition: int, committed: Committed) -> dict[str, bytes]:
        """What is stored of an offset, for a transaction to store when it commits: then take() hears of it."""
        return {_key(group_id, topic, partition): msgspec.msgpack.encode(committed)}

    def unsettled(self) -> set[tuple[str, str, int]]:
        """Groups, topics and partitions whose next offsets wait for the end of a transaction."""
        return {_place(key) for key in self._router.transactions.unsettled() if key.startswith(OFFSET_PREFIX)}

    def take(self, records: Mapping[str, bytes]) -> set[str]:
        """A transaction has stored these records, of whatever kind. Returns the groups whose offsets are among them."""
        groups = set()
        for key, value in records.items():
            if key.startswith(OFFSET_PREFIX):
                group_id, topic, partition = _place(key)
                self._set(group_id, topic, partition, msgspec.msgpack.decode(value, type=Committed))
                groups.add(group_id)
        if groups:
            self._forget_deleted()                                          # a topic may have gone meanwhile
        return groups

    def get(self, group_id: str, topic: str, partition: int) -> Committed | None:
        return self._by_topic.get(topic, {}).get(group_id, {}).get(partition)

    def of(self, group_id: str) -> Iterator[tuple[str, int, Committed]]:
        for topic in sorted(self.topics(group_id)):
            for partition, committed in sorted(self._by_topic[topic][group_id].items()):
                yield topic, partition, committed

    def topics(self, group_id: str) -> set[str]:
        return {topic for topic in self._topics_of.get(group_id, ()) if self._by_topic.get(topic, {}).get(group_id)}

    def delete(self, group_id: str, topic: str, partition: int) -> Ticket | None:
        """None: there was none."""
        found = self._by_topic.get(topic, {}).get(group_id, {}).pop(partition, None)
        if found is not None:
            self._count(group_id, -_size(topic, found))
        return None if found is None else self._state.delete(_key(group_id, topic, partition))

    def delete_group(self, group_id: str) -> None:
        for topic in self._topics_of.pop(group_id, ()):
            for partition, committed in self._by_topic.get(topic, {}).pop(group_id, {}).items():
                self._count(group_id, -_size(topic, committed))
                self._state.delete(_key(group_id, topic, partition))

    def _forget_deleted(self) -> None:
        """Offsets of topics that are not there: gone for readers at once, from the disk some at a time."""
        streams, before = self._router.streams.by_name, len(self._gone)
        for topic in [topic for topic in self._by_topic if topic not in streams]:
            for group_id, committed in self._by_topic.pop(topic).items():
                self._count(group_id, -sum(_size(topic, each) for each in committed.values()))
                self._gone.extend((group_id, topic, partition) for partition in committed)
        if self._gone and not before:
            self._delete_some()

    def _delete_some(self) -> None:
        for _ in range(min(DELETED_PER_TURN, len(self._gone))):
            group_id, topic, partition = self._gone.popleft()
            if self.get(group_id, topic, partition) is None:                # else the topic is there again, and read
                self._state.delete(_key(group_id, topic, partition))
        if self._gone:
            self._timers.call_at(self._router.clock_s(), self._delete_some)


def _size(topic: str, committed: Committed) -> int:
    return OFFSET_BYTES + len(topic) + len(committed.metadata or "")


def _place(key: str) -> tuple[str, str, int]:
    """Group, topic and partition of a key, with or without its prefix: only a group may have a slash in it."""
    place, _, partition = key.removeprefix(OFFSET_PREFIX).rpartition("/")
    group_id, _, topic = place.rpartition("/")
    return group_id, topic, int(partition)


def _key(group_id: str, topic: str, partition: int) -> str:
    return f"{OFFSET_PREFIX}{group_id}/{topic}/{partition}"
