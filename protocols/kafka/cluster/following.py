"""Following: what a node keeps of the groups and topics of the leader, to go on with them when that is lost.

Topics are made here as they are there, with the same id, and a topic that was deleted there is deleted here. Of a group
the last that was told is stored, each offset by itself, and looked up in the log of this node when it takes over:

    kafka-copy/<group>                          whose it is, and its generation
    kafka-copied/<group>\0<topic>\0<partition>  how far it has read, as messages.Row says it
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from protocols.kafka.cluster.meaning import Places, first_unread, own_origin
from protocols.kafka.cluster.messages import Copy, Dropped, Gone, Row, Topic, Topics
from protocols.kafka.groups.offsets import Committed
from routing.event import OriginPartition
from routing.settings import StreamSettings
from routing.steps import in_steps
from routing.ticket import Ticket, when_all

if TYPE_CHECKING:
    from protocols.kafka.broker import Broker
    from protocols.peers import Peers

log = logging.getLogger(__name__)

COPY: Final = "kafka-copy/"
ROW: Final = "kafka-copied/"
ROWS_PER_STEP: Final = 200
AGREED: Final = "kafka-agreed/"         # topic → the incarnation that the cluster has, or had, here


class _Group(msgspec.Struct, array_like=True):
    """As it is stored."""

    owner: str
    generation: int


class _Copied:
    """A group of the leader's: whose it is, and its offsets by topic and partition."""

    __slots__ = ("head", "numbers", "rows")

    def __init__(self, head: _Group) -> None:
        self.head = head
        self.rows: dict[str, dict[int, Row]] = {}
        self.numbers: dict[tuple[str, int], tuple[int, int]] = {}       # term and number by which it was told


class Following:
    """Loop thread only."""

    def __init__(self, broker: Broker, peers: Peers) -> None:
        self._broker = broker
        self._peers = peers
        self._state = broker.router.state
        self.copies = {group_id: _Copied(head) for group_id, head in self._state.decoded(
            COPY, _Group, "a copy of a Kafka group")}
        for place, row in self._state.decoded(ROW, Row, "a copy of an offset of a Kafka group"):
            found = self.copies.get(place.partition("\0")[0])
            if found is not None:
                found.rows.setdefault(row.topic, {})[row.partition] = row
        self.known: dict[tuple[str, str, int], tuple[int, Places]] = {}     # of what was taken over: see telling.py
        self._told_of: set[str] = set()         # topics that cannot be as they are there: said once

    # -- what the leader says ----------------------------------------------------------------------------------

    def on_copy(self, copy: Copy) -> None:
        head = _Group(copy.owner, copy.generation)
        found = self.copies.get(copy.group_id)
        if found is None or found.head != head:
            self._state.put(COPY + copy.group_id, msgspec.msgpack.encode(head))
        if found is None:
            found = self.copies[copy.group_id] = _Copied(head)
        found.head = head
        number = copy.term, copy.number
        for row in copy.rows:
            place = row.topic, row.partition
            if found.numbers.get(place, number) > number:           # it was overtaken
                continue
            found.numbers[place] = number
            of_topic = found.rows.setdefault(row.topic, {})
            if of_topic.get(row.partition) != row:
                of_topic[row.partition] = row
                self._state.put(_key(copy.group_id, row.topic, row.partition), msgspec.msgpack.encode(row))

    def on_gone(self, gone: Gone) -> None:
        found = self.copies.pop(gone.group_id, None)
        if found is not None:
            self._state.delete(COPY + gone.group_id)
            in_steps(self._broker.router, self._forget(gone.group_id, found))

    def _forget(self, group_id: str, copied: _Copied) -> Iterator[None]:
        for topic, rows in copied.rows.items():
            for count, partition in enumerate(rows, 1):
                now = self.copies.get(group_id)                     # it may be told of anew meanwhile
                if now is None or partition not in now.rows.get(topic, {}):
                    self._state.delete(_key(group_id, topic, partition))
                if count % ROWS_PER_STEP == 0:
                    yield

    def on_topics(self, told: Topics) -> None:
        for topic in told.topics:
            try:
                settings = msgspec.msgpack.decode(topic.settings, type=StreamSettings)
            except msgspec.MsgspecError:
                continue                        # of a newer version
            self._follow(topic, settings)

    def _follow(self, topic: Topic, settings: StreamSettings) -> None:
        lifecycle, stream = self._broker.router.lifecycle, self._broker.topics.find(topic.name)
        if topic.name != settings.name or settings.name.startswith("$"):
            return
        if stream is None:
            self._agree(topic)
            lifecycle.create(settings, topic.owner, topic.incarnation)
        elif stream.incarnation != topic.incarnation:
            if self._state.get(AGREED + topic.name) == stream.incarnation:      # it was made again there
                lifecycle.delete(topic.name)
            elif topic.name not in self._told_of:
                self._told_of.add(topic.name)
                log.warning("kafka: the topic %s is another one here than on the node that leads the cluster: delete "
                            "it on one of them", topic.name)
        else:
            self._agree(topic)
            if settings.partitions > len(stream.partitions):
                lifecycle.grow(topic.name, settings.partitions)
            elif settings != stream.settings and settings.partitions == len(stream.partitions):
                lifecycle.change(settings)

    def _agree(self, topic: Topic) -> None:
        if self._state.get(AGREED + topic.name) != topic.incarnation:
            self._state.put(AGREED + topic.name, topic.incarnation)

    def on_dropped(self, dropped: Dropped) -> None:
        stream = self._broker.topics.find(dropped.name)
        if stream is not None and stream.incarnation == dropped.incarnation:
            self._broker.router.lifecycle.delete(dropped.name)

    # -- taking over ------------------------------------------------------------------------------------------

    def take_over(self, done: Callable[[], None]) -> None:
        """Make the groups of the copies this node's own; done() is called when they are on disk."""
        in_steps(self._broker.router, self._take_over(done))

    def _take_over(self, done: Callable[[], None]) -> Iterator[None]:
        groups = self._broker.groups
        for group_id in [known for known, group in groups.by_id.items()
                         if group.share is None and known not in self.copies]:
            groups.drop(group_id)               # of a time when this node led
            yield
        left: list[Ticket] = []
        for group_id, copied in list(self.copies.items()):
            places: dict[tuple[str, int], Committed] = {}
            for topic in list(copied.rows):
                yield from self._look_up(group_id, copied, topic, places)
            groups.take_over(group_id, copied.head.owner, copied.head.generation)
            for count, ((topic, index), committed) in enumerate(places.items(), 1):
                left.append(groups.offsets.commit(group_id, topic, index, committed))
                if count % ROWS_PER_STEP == 0:
                    yield
            log.info("kafka: the group %r goes on here, in %d partitions", group_id[:100], len(places))
            yield
        when_all(left, lambda _: done())

    def _look_up(self, group_id: str, copied: _Copied, topic: str,
                 places: dict[tuple[str, int], Committed]) -> Iterator[None]:
        """Where the group goes on in the partitions of a topic."""
        stream = self._broker.topics.find(topic)
        rows = list(copied.rows[topic].values())
        reached = [{OriginPartition(one.node, one.epoch, one.stream, one.index): one.next for one in row.reached}
                   for row in rows]
        leaders = {list(each)[-1]: list(each.values())[-1] for each in reached if each}     # its own log comes last
        for row, each in zip(rows, reached):
            if stream is None or row.partition >= len(stream.partitions):
                continue
            partition = stream.partitions[row.partition]
            own = own_origin(self._peers, partition)
            found: list[int] = []
            yield from first_unread(partition, own, {**each, **leaders}, found)
            offset = found[0] if row.offset >= 0 else row.offset
            places[topic, row.partition] = Committed(offset, row.epoch, row.metadata, row.at_ms)
            self.known[group_id, topic, row.partition] = offset, each
            yield


def _key(group_id: str, topic: str, partition: int) -> str:
    return f"{ROW}{group_id}\0{topic}\0{partition}"
