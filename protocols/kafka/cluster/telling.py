"""Telling: what the leader says of its groups and topics, so that another node can go on with them.

What has changed of a group is told TELL_S later, so a commit costs no more than its own record. All of all groups is
told again in turn, because messages may be lost. What was committed since the last telling is read again elsewhere.
All of it is done in steps: a group may have thousands of offsets, and what they mean has to be looked up.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from protocols.kafka.cluster.meaning import Places, Samples, at_least_before, own_origin
from protocols.kafka.cluster.messages import REACHED_MAX, ROWS_MAX, TOPICS_MAX, Copy, Message, Reached, Row, Topic
from protocols.kafka.cluster.messages import Topics as ToldTopics
from protocols.kafka.groups.offsets import Committed
from routing.steps import in_steps

if TYPE_CHECKING:
    from protocols.kafka.broker import Broker
    from protocols.peers import Peers
    from routing.log.partition import Partition
    from routing.streams.streams import Stream

TELL_S: Final = 0.25            # after a commit
AGAIN_S: Final = 5.0            # a round of all topics, and …
ROUND_PER_TICK: Final = 5       # … so many groups each time, changed or not
SAMPLE_S: Final = 1.0
LOOKED_AT_PER_STEP: Final = 200         # offsets that are as they were told last,
LOOKED_UP_PER_STEP: Final = 10          # or whose meaning is looked up: some 2 ms
ROWS_BYTES: Final = 256 * 1024          # of one message
ROW_BYTES: Final = 100                  # of a row beside its texts, and of each place in it

Place = tuple[str, int]         # topic, partition
Key = tuple[str, str, int]      # group, topic, partition


class Telling:
    """Loop thread only."""

    def __init__(self, broker: Broker, peers: Peers, say: Callable[[Message], None], term: Callable[[], int]) -> None:
        self._broker = broker
        self._peers = peers
        self._say = say
        self._term = term
        self._number = 0
        self._samples = Samples(broker.router)
        self._known: dict[str, dict[Place, tuple[int, Places]]] = {}    # by group: at an offset, so much was read
        self._told: dict[str, dict[Place, Committed]] = {}
        self._told_topics: dict[str, tuple[bytes, object]] = {}     # name → incarnation and settings
        self._changed: dict[str, bool] = {}                 # group → all of it is to be told
        self._round: list[str] = []
        self._topics_changed = True
        self._is_telling = self._is_sampling = False
        self._sample_due_s = self._tell_due_s = self._topics_due_s = 0.0

    def changed(self, group_id: str) -> None:
        self._changed.setdefault(group_id, False)

    def topics_changed(self) -> None:
        self._topics_changed = True
        self._tell_due_s = 0.0                  # before what is written to a new one is acked, if that can be

    def all(self) -> None:
        """To somebody who knows nothing yet."""
        self._changed.update(dict.fromkeys(self._broker.groups.by_id, True))
        self._topics_due_s = 0.0

    def seed(self, known: dict[Key, tuple[int, Places]]) -> None:
        """What is known of groups that were taken over."""
        for (group_id, topic, index), found in known.items():
            self._known.setdefault(group_id, {})[topic, index] = found

    def gone(self, group_id: str) -> None:
        """It was deleted."""
        for table in (self._known, self._told, self._changed):
            table.pop(group_id, None)

    def forget(self) -> None:
        """This node leads no more."""
        self._changed.clear()
        self._known.clear()
        self._told.clear()
        self._told_topics.clear()
        self._round.clear()

    def tick(self, now_s: float) -> None:
        if now_s >= self._sample_due_s and not self._is_sampling:
            self._sample_due_s = now_s + SAMPLE_S
            self._is_sampling = True
            in_steps(self._broker.router, self._sample())
        if now_s >= self._tell_due_s and not self._is_telling:
            self._tell_due_s = now_s + TELL_S
            self._is_telling = True
            if now_s >= self._topics_due_s:
                self._topics_due_s = now_s + AGAIN_S
                self._told_topics.clear()
                self._topics_changed = True
            in_steps(self._broker.router, self._tell())

    def _sample(self) -> Iterator[None]:
        try:
            found = map(self._broker.topics.find, self._broker.groups.offsets.committed_topics())
            partitions = {partition for stream in found if stream is not None for partition in stream.partitions}
            yield from self._samples.take(partitions)
        finally:
            self._is_sampling = False

    def _tell(self) -> Iterator[None]:
        try:
            if self._topics_changed:
                self._topics_changed = False
                yield from self._tell_topics()
            if not self._round:
                self._round = list(self._broker.groups.by_id)
            for group_id in [self._round.pop() for _ in range(min(ROUND_PER_TICK, len(self._round)))]:
                self._changed[group_id] = True
            changed, self._changed = self._changed, {}
            for group_id, whole in changed.items():
                yield from self._tell_group(group_id, whole=whole)
        finally:
            self._is_telling = False

    # -- groups -----------------------------------------------------------------------------------------------

    def _tell_group(self, group_id: str, *, whole: bool) -> Iterator[None]:
        """Its rows in as many messages as they need. whole: those, too, that were told."""
        rows: list[Row] = []
        size = looked_at = looked_up = 0
        said = False
        told, known = self._told.setdefault(group_id, {}), self._known.setdefault(group_id, {})
        for topic, index, committed in list(self._broker.groups.offsets.of(group_id)):
            place = topic, index
            looked_at += 1
            if whole or told.get(place) != committed:
                looked_up += known.get(place, (-1,))[0] != committed.offset
                row = self._row(known, place, committed)
                if row is not None:
                    told[place] = committed
                    rows.append(row)
                    size += ROW_BYTES * (1 + len(row.reached)) + len(topic) + len(committed.metadata or "") * 4
            if len(rows) >= ROWS_MAX or size >= ROWS_BYTES:
                self._say_rows(group_id, rows)
                said = True
                rows, size = [], 0
                yield
            elif looked_at >= LOOKED_AT_PER_STEP or looked_up >= LOOKED_UP_PER_STEP:
                looked_at = looked_up = 0
                yield
        if rows or not said:
            self._say_rows(group_id, rows)
        yield

    def _say_rows(self, group_id: str, rows: list[Row]) -> None:
        group = self._broker.groups.by_id.get(group_id)
        if group is not None and group.share is None:
            self._number += 1
            self._say(Copy(self._term(), self._number, group_id, group.owner, group.generation, rows))

    def _row(self, known: dict[Place, tuple[int, Places]], place: Place, committed: Committed) -> Row | None:
        """None: the partition is not there."""
        topic, index = place
        stream = self._broker.topics.find(topic)
        if stream is None or index >= len(stream.partitions):
            return None
        partition = stream.partitions[index]
        own = own_origin(self._peers, partition)
        places = dict(self._before(known, place, partition, committed.offset))
        places.pop(own, None)
        places[own] = committed.offset                  # the last one: following.py
        return Row(topic, index, committed.offset, committed.epoch, committed.metadata, committed.at_ms, [
            Reached(origin.node, origin.epoch, origin.stream, origin.index, place)
            for origin, place in list(places.items())[-REACHED_MAX:]])

    def _before(self, of_group: dict[Place, tuple[int, Places]], place: Place, partition: Partition,
                offset: int) -> Places:
        """How much of other nodes stands before a committed offset."""
        since, known = of_group.get(place, (-1, {}))
        if since != offset:
            seen = self._samples.before(partition, offset)
            near = at_least_before(partition, offset) if offset > 0 else {}
            sure = (known if offset >= since else {}, seen, near)
            known = {origin: max(each.get(origin, 0) for each in sure) for each in sure for origin in each}
            of_group[place] = offset, known
        return known

    # -- topics -----------------------------------------------------------------------------------------------

    def _tell_topics(self) -> Iterator[None]:
        """Those that are not as they were told last."""
        lifecycle = self._broker.router.lifecycle
        streams = iter(list(self._broker.topics))
        while piece := list(islice(streams, TOPICS_MAX)):
            made = [stream for stream in piece if self._is_news(stream) and not lifecycle.is_configured(stream.name)]
            if made:
                self._say(ToldTopics([
                    Topic(stream.name, stream.incarnation, msgspec.msgpack.encode(stream.settings),
                          lifecycle.owner(stream.name)) for stream in made]))
            yield

    def _is_news(self, stream: Stream) -> bool:
        now = stream.incarnation, stream.settings
        before, self._told_topics[stream.name] = self._told_topics.get(stream.name), now
        return before != now
