"""Telling: what the leader says of its groups and topics, so that another node can go on with them.

A group is told TELL_S after it has changed, so a commit costs no more than its own record; all of them are told again
in turn, because messages may be lost. What was committed since the last telling is read again elsewhere.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from protocols.kafka.cluster.meaning import Places, Samples, at_least_before
from protocols.kafka.cluster.messages import REACHED_MAX, ROWS_MAX, TOPICS_MAX, Copy, Message, Reached, Row, Topic
from protocols.kafka.cluster.messages import Topics as ToldTopics
from routing.event import OriginPartition

if TYPE_CHECKING:
    from protocols.kafka.broker import Broker
    from protocols.peers import Peers
    from routing.log.partition import Partition

TELL_S: Final = 0.25            # after a commit
AGAIN_S: Final = 5.0            # a round of all topics, and …
ROUND_PER_TICK: Final = 5       # … so many groups each time, changed or not
CHANGED_PER_TICK: Final = 100   # groups that have changed; the others have the next tick


class Telling:
    """Loop thread only."""

    def __init__(self, broker: Broker, peers: Peers, say: Callable[[Message], None]) -> None:
        self._broker = broker
        self._peers = peers
        self._say = say
        self._samples = Samples(broker.router)
        self._known: dict[tuple[str, str, int], tuple[int, Places]] = {}    # of rows: at an offset, so much was read
        self._changed: dict[str, None] = {}
        self._round: list[str] = []
        self._sample_due_s = self._tell_due_s = self._topics_due_s = 0.0

    def changed(self, group_id: str) -> None:
        self._changed[group_id] = None

    def all(self) -> None:
        """To somebody who knows nothing yet."""
        self._changed.update(dict.fromkeys(self._broker.groups.by_id))
        self._topics_due_s = 0.0

    def seed(self, known: dict[tuple[str, str, int], tuple[int, Places]]) -> None:
        """What is known of groups that were taken over, by group, topic and partition."""
        self._known.update(known)

    def forget(self) -> None:
        """This node leads no more."""
        self._changed.clear()
        self._known.clear()
        self._round.clear()

    def tick(self, now_s: float) -> None:
        if now_s >= self._sample_due_s:
            self._sample_due_s = now_s + 1.0
            self._samples.take(self._partitions())
        if now_s >= self._tell_due_s:
            self._tell_due_s = now_s + TELL_S
            if not self._round:
                self._round = list(self._broker.groups.by_id)
            for group_id in [self._round.pop() for _ in range(min(ROUND_PER_TICK, len(self._round)))]:
                self._changed[group_id] = None
            for group_id in list(self._changed)[:CHANGED_PER_TICK]:
                del self._changed[group_id]
                self._tell(group_id)
        if now_s >= self._topics_due_s:
            self._topics_due_s = now_s + AGAIN_S
            self._tell_topics()

    def _partitions(self) -> set[Partition]:
        offsets = self._broker.groups.offsets
        names = {topic for group_id in offsets.groups() for topic in offsets.topics(group_id)}
        streams = [stream for stream in map(self._broker.topics.find, names) if stream is not None]
        return {partition for stream in streams for partition in stream.partitions}

    # -- groups -----------------------------------------------------------------------------------------------

    def _tell(self, group_id: str) -> None:
        group = self._broker.groups.by_id.get(group_id)
        if group is not None and group.share is None:
            self._say(Copy(group_id, group.owner, group.generation, list(self._rows(group_id))[:ROWS_MAX]))

    def _rows(self, group_id: str) -> Iterator[Row]:
        broker = self._broker
        for topic, index, committed in broker.groups.offsets.of(group_id):
            stream = broker.topics.find(topic)
            if stream is None or index >= len(stream.partitions):
                continue
            partition = stream.partitions[index]
            key = group_id, topic, index
            own = OriginPartition(self._peers.me, self._peers.epoch, partition.origin_name, index)
            places = dict(self._before(key, partition, committed.offset))
            places.pop(own, None)
            places[own] = committed.offset                  # the last one: following.py
            yield Row(topic, index, committed.offset, committed.epoch, committed.metadata, committed.at_ms, [
                Reached(origin.node, origin.epoch, origin.stream, origin.index, place)
                for origin, place in list(places.items())[-REACHED_MAX:]])

    def _before(self, key: tuple[str, str, int], partition: Partition, offset: int) -> Places:
        """How much of other nodes stands before a committed offset."""
        since, known = self._known.get(key, (-1, {}))
        if since != offset:
            seen = self._samples.before(partition, offset) or {}
            near = at_least_before(partition, offset) if offset > 0 else {}
            sure = (known if offset >= since else {}, seen, near)
            known = {origin: max(each.get(origin, 0) for each in sure) for each in sure for origin in each}
            self._known[key] = offset, known
        return known

    # -- topics -----------------------------------------------------------------------------------------------

    def _tell_topics(self) -> None:
        lifecycle = self._broker.router.lifecycle
        made = [
            Topic(stream.name, stream.incarnation, msgspec.msgpack.encode(stream.settings),
                  lifecycle.owner(stream.name))
            for stream in self._broker.topics if not lifecycle.is_configured(stream.name)]
        for start in range(0, len(made), TOPICS_MAX):
            self._say(ToldTopics(made[start:start + TOPICS_MAX]))
