"""What is stored of consumers, in the state table, and how it is read again.

    consumer/<name>     what it is: options, owner. Written when that changes
    consumer-filter/<name>, U+0000, <filter>    one of its filters, so that a change of one costs that of one
    cursors/<name>      where it stands: per partition, where to read on and what below that is unacked. Written often,
                        so it is short: unacked offsets are runs of neighbours
    consumer-ends       the ends of all partitions at a moment when every consumer that had moved was stored. A consumer
                        that stood at the tail in its cursors/ then has read up to there, if it was quiet ever since:
                        so quiet consumers need not be stored one by one to know after a crash where they were
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.cursors.cursor import Cursor, Delivery
from routing.rights.policy import Identity
from routing.state import StateTable
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition

log = logging.getLogger(__name__)

CONSUMER = "consumer/"
FILTER = "consumer-filter/"
CURSORS = "cursors/"
ENDS_KEY = "consumer-ends"


class CursorState(msgspec.Struct, array_like=True):
    stream: str
    partition: int
    position: int
    unacked: dict[int, int] | list[tuple[int, int, int]]    # runs of first offset, count, how often delivered; the
    repeats_below: int = 0                                  # dictionary offset → how often is of older builds
    ahead: list[int] = []                                   # acked offsets from position on
    at_tail: bool = False                                   # it had looked at everything

    def attempts(self) -> Iterator[tuple[int, int]]:
        """Unacked offsets, and how often each was delivered."""
        if isinstance(self.unacked, dict):
            yield from self.unacked.items()
        else:
            for first, count, attempts in self.unacked:
                for offset in range(first, first + count):
                    yield offset, attempts


class FilterState(msgspec.Struct, array_like=True):
    """A filter of a consumer."""

    generation: int                         # of the consumer when it was stored: since does not outlive a seek
    since: list[tuple[str, int, int]]       # stream, partition, first offset that it wants there


class ConsumerState(msgspec.Struct, omit_defaults=True):
    spec: ConsumerSpec
    owner: Identity                         # with its client id, since rules with %c depend on it
    filters: list[str] = []                 # of older builds
    cursors: list[CursorState] = []         # the same
    attached: bool = False                  # the same
    paused: bool = False
    generation: int = 0


class Place(msgspec.Struct, array_like=True):
    """Where a consumer stands."""

    cursors: list[CursorState]
    attached: bool                          # somebody may have got events beyond the stored position


class StoredConsumers:
    """Writes and reads these records."""

    def __init__(self, state: StateTable) -> None:
        self._state = state
        self._ends: dict[tuple[str, int], int] = {}
        self._found_ends: dict[Partition, int] = {}

    def put_consumer(self, consumer: Consumer) -> Ticket:
        """What it is, and the filters that are not stored yet."""
        fresh, unstored = consumer.interest.fresh, consumer.interest.unstored
        for pattern in unstored:
            since = [(partition.stream, partition.index, offset)
                     for partition, offset in fresh.get(pattern, {}).items()]
            self._state.put(
                _filter_key(consumer.name, pattern), msgspec.msgpack.encode(FilterState(consumer.generation, since)))
        unstored.clear()
        state = ConsumerState(
            consumer.spec, consumer.identity, paused=consumer.paused, generation=consumer.generation)
        return self._state.put(CONSUMER + consumer.name, msgspec.msgpack.encode(state))

    def put_cursors(self, consumer: Consumer) -> Ticket:
        by_key = consumer.spec.mode is Mode.KEY_SHARED
        cursors = []
        for cursor in consumer.cursors.values():
            if cursor.partition.index < 0:              # in memory only
                continue
            position, unacked = cursor.state(by_key=by_key)
            cursor.tail_stored = cursor.at_tail()
            cursors.append(CursorState(
                cursor.partition.stream, cursor.partition.index, position, runs_of(unacked), cursor.repeats_below,
                sorted(cursor.ahead | {offset for offset in cursor.passed_by
                                       if offset >= position and offset not in unacked}), cursor.tail_stored))
        place = Place(cursors, consumer.attachment.gives)
        return self._state.put(CURSORS + consumer.name, msgspec.msgpack.encode(place))

    def put_ends(self, partitions: Iterable[Partition]) -> bool:
        """Every consumer that has moved must be stored, or on its way to the disk in this turn. False: not now."""
        if not self._state.is_settled:                  # a refused record must not be overtaken by ends behind it
            return False
        ends = {(partition.stream, partition.index): partition.end_offset for partition in partitions}
        if ends != self._ends:
            self._ends = ends
            rows = [(stream, index, end) for (stream, index), end in ends.items()]
            self._state.put(ENDS_KEY, msgspec.msgpack.encode(rows))
        return True

    def delete_filter(self, consumer: Consumer, pattern: str) -> None:
        if pattern not in consumer.interest.unstored:
            self._state.delete(_filter_key(consumer.name, pattern))

    def delete(self, consumer: Consumer) -> Ticket:
        for pattern in consumer.filters:
            self.delete_filter(consumer, pattern)
        self._state.delete(CURSORS + consumer.name)
        return self._state.delete(CONSUMER + consumer.name)

    def start(self, partitions: Iterable[Partition]) -> None:
        """What counts for all that is read from now on: the stored ends, and where the log ended then."""
        rows = self._state.read(ENDS_KEY, list[tuple[str, int, int]], "ends of quiet consumers") or []
        self._ends = {(stream, index): end for stream, index, end in rows}
        self._found_ends = {partition: partition.end_offset for partition in partitions}

    def consumers(self) -> Iterator[tuple[ConsumerState, list[str]]]:
        """With the filters that are stored apart."""
        patterns: dict[str, list[str]] = {}
        for key, _ in self._state.items(FILTER):
            name, _, pattern = key[len(FILTER):].partition("\0")
            patterns.setdefault(name, []).append(pattern)
        for name, state in self._state.decoded(CONSUMER, ConsumerState, "consumer"):
            yield state, patterns.pop(name, [])

    def place(self, state: ConsumerState) -> Place:
        place = self._state.read(CURSORS + state.spec.name, Place, "place of a consumer")
        return place or Place(state.cursors, state.attached)

    def filters(self, name: str, patterns: list[str]) -> dict[str, FilterState]:
        """Those that can be read."""
        found = ((pattern, self._state.read(_filter_key(name, pattern), FilterState, "filter of a consumer"))
                 for pattern in patterns)
        return {pattern: state for pattern, state in found if state is not None}

    def cursor(self, partition: Partition, stored: CursorState, attached: bool, *, owed: bool = False) -> Cursor:
        """The cursor that was stored. owed: it is a queue's."""
        wanted = stored.position
        end_offset = self._found_ends.get(partition, partition.end_offset)
        if stored.at_tail:
            wanted = max(wanted, self._ends.get((partition.stream, partition.index), 0))
        position = min(wanted, end_offset)
        if position < wanted:
            log.error("%s/%d ends at %d, a consumer had read to %d: the log has lost its end",
                      partition.stream, partition.index, end_offset, wanted)
        cursor = Cursor(partition, position, owed=owed)
        cursor.tail_stored = stored.at_tail and position >= partition.end_offset
        cursor.repeats_below = max(stored.repeats_below, end_offset if attached else 0)
        cursor.ahead = {offset for offset in stored.ahead if position <= offset < end_offset}
        for offset, attempts in stored.attempts():
            event = cursor.event(offset) if offset < position else None
            if event is not None:
                cursor.again[offset] = Delivery(event, attempts + 1)
        return cursor


def _filter_key(name: str, pattern: str) -> str:
    """Neither can hold U+0000."""
    return f"{FILTER}{name}\0{pattern}"


def runs_of(unacked: dict[int, int]) -> list[tuple[int, int, int]]:
    """Neighbours that were delivered equally often, as first offset, count and that."""
    if not unacked:
        return []
    offsets = sorted(unacked)
    if offsets[-1] - offsets[0] + 1 == len(offsets) and len(set(unacked.values())) == 1:
        return [(offsets[0], len(offsets), unacked[offsets[0]])]
    runs: list[tuple[int, int, int]] = []
    first, count, attempts = offsets[0], 0, unacked[offsets[0]]
    for offset in offsets:
        if offset != first + count or unacked[offset] != attempts:
            runs.append((first, count, attempts))
            first, count, attempts = offset, 0, unacked[offset]
        count += 1
    runs.append((first, count, attempts))
    return runs
