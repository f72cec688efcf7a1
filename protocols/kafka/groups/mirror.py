"""Groups among the consumers: one registry, one lag, whatever the protocol.

A group that has committed is a shared Consumer of its name, whose cursors stand where the group has committed. So it is
in /v1/consumers, the console and the metrics, with its lag. Its members read by Fetch, never through the Consumer; the
offsets that count for them are those of offsets.py. The Consumer follows them some tenths of a second behind, so that a
commit costs no more than its own record.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from protocols.kafka.groups.offsets import Offsets
from protocols.kafka.runtime.timers import Timers
from protocols.kafka.topics.table import Topics
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec
from routing.errors import Refusal
from routing.rights.policy import Identity
from routing.router import Router

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.log.partition import Partition

log = logging.getLogger(__name__)

FOLLOWS_S = 0.3             # after a commit
GROUPS_PER_TURN = 20        # that follow at once; the others have the next turns,
OFFSETS_PER_TURN = 500      # and so have those behind one with so many offsets


class Mirror:
    """One per coordinator. Loop thread only."""

    def __init__(self, router: Router, topics: Topics, offsets: Offsets, timers: Timers,
                 deleted: Callable[[str], None]) -> None:
        """deleted: told of the name of a consumer that somebody else has deleted."""
        self._router = router
        self._topics = topics
        self._offsets = offsets
        self._timers = timers
        self._due: dict[str, Identity | None] = {}
        self._is_timed = False
        router.registry.on_deleted.append(deleted)

    def start(self, group_ids: list[str]) -> None:
        """After a start: what is stored of a Consumer may be older than the offsets."""
        for group_id in group_ids:
            self._due[group_id] = None
        self._time()

    def committed(self, group_id: str, identity: Identity) -> None:
        self._due[group_id] = identity
        self._time()

    def forget(self, group_id: str, owner: str) -> None:
        """The group is deleted; its offsets go after this. What only has its name stays: a queue, or a consumer that
        is another user's and was none of the group, which has committed nothing.
        """
        self._due.pop(group_id, None)
        consumer = self._router.registry.by_name.get(group_id)
        if consumer is None or consumer.spec.mode is not Mode.SHARED or consumer.members.all \
                or consumer.spec.queue is not None:
            return
        if consumer.identity.user == owner or self._offsets.topics(group_id):
            self._router.delete_consumer(group_id)

    def _time(self, delay_s: float = FOLLOWS_S) -> None:
        if self._due and not self._is_timed:
            self._is_timed = True
            self._timers.call_at(self._router.clock_s() + delay_s, self._follow_some)

    def _follow_some(self) -> None:
        self._is_timed = False
        offsets = 0
        for group_id in list(self._due)[:GROUPS_PER_TURN]:
            if offsets >= OFFSETS_PER_TURN:
                break
            try:
                offsets += self._follow(group_id, self._due.pop(group_id))
            except Exception:
                log.exception("kafka: a fault of ours while the consumer of a group follows")
        self._time(0.0)

    def _follow(self, group_id: str, identity: Identity | None) -> int:
        """Returns how many offsets were looked at."""
        wanted: dict[Partition, int] = {}
        for topic, index, committed in self._offsets.of(group_id):
            stream = self._topics.find(topic)
            if stream is not None and index < len(stream.partitions):
                wanted[stream.partitions[index]] = max(committed.offset, 0)
        consumer = self._consumer(group_id, identity, wanted) if wanted else None
        if consumer is None or consumer.members.all:        # somebody reads through it: that is another door
            return len(wanted)
        moved = {
            partition: offset for partition, offset in wanted.items()
            if partition in consumer.cursors and consumer.cursors[partition].next_wanted != max(
                offset, partition.start_offset)}
        if moved:
            consumer.seek(moved)
        return len(wanted)

    def _consumer(self, group_id: str, identity: Identity | None, wanted: dict[Partition, int]) -> Consumer | None:
        found = self._router.registry.by_name.get(group_id)
        if found is not None and (identity is None or all(partition in found.cursors for partition in wanted)):
            return found
        if identity is None or (found is not None and found.spec.mode is not Mode.SHARED):
            return None
        names = sorted({partition.stream for partition in wanted} | set(found.spec.streams if found else ()))
        streams = [stream for stream in map(self._topics.find, names) if stream is not None]
        filters = tuple(dict.fromkeys(pattern for stream in streams for pattern in stream.filters))
        made = self._router.open_consumer(
            ConsumerSpec(group_id, filters, Mode.SHARED, streams=tuple(names)), identity)
        if isinstance(made, Refusal):
            log.info("kafka: the group %r is not among the consumers: %s", group_id[:100], made.text)
            return None
        return made
