"""Dedupe ids that a start has found in the log, by Event.publisher. They only go.

Of each partition the last ones count: the log does not say in which order those of two partitions came. Were there one
window for all, the ids of the partition that is read last would push out those of the others, and what a publisher had
in flight when the node died would be taken twice.
"""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from routing.log.partition import Partition

KEY_BYTES = 350             # of a remembered id beside its topic and itself

DedupeKey: TypeAlias = tuple[str, bytes | str | int]       # topic, dedupe id


def key_bytes(dedupe_key: DedupeKey) -> int:
    """What remembering it takes, about."""
    topic, identifier = dedupe_key
    return KEY_BYTES + len(topic) + (len(identifier) if isinstance(identifier, (str, bytes)) else 8)


class Remembered:
    """Bounded by ids of a publisher in a partition, and by bytes of all: beyond those each keeps half as many."""

    def __init__(self, size: int, bytes_max: int) -> None:
        self._size = size
        self._bytes_max = bytes_max
        self._places: dict[str, dict[DedupeKey, tuple[Partition, int]]] = {}
        self._order: dict[tuple[str, Partition], deque[tuple[DedupeKey, int]]] = {}
        self.bytes = 0

    def add(self, publisher: str, dedupe_key: DedupeKey, partition: Partition, offset: int) -> None:
        """In the order of its partition."""
        places = self._places.setdefault(publisher, {})
        order = self._order.setdefault((publisher, partition), deque())
        if dedupe_key not in places:
            self.bytes += key_bytes(dedupe_key)
        places[dedupe_key] = partition, offset
        order.append((dedupe_key, offset))
        self._shorten(publisher, partition)
        while self.bytes > self._bytes_max and self._size > 1:
            self._size //= 2
            for known in self._order:
                self._shorten(*known)

    def _shorten(self, publisher: str, partition: Partition) -> None:
        places, order = self._places[publisher], self._order[publisher, partition]
        while len(order) > self._size:
            dedupe_key, offset = order.popleft()
            if places.get(dedupe_key) == (partition, offset):       # it may have come again later
                self.forget(publisher, dedupe_key)

    def find(self, publisher: str, dedupe_key: DedupeKey) -> tuple[Partition, int] | None:
        places = self._places.get(publisher)
        return places.get(dedupe_key) if places is not None else None

    def forget(self, publisher: str, dedupe_key: DedupeKey) -> None:
        if self._places.get(publisher, {}).pop(dedupe_key, None) is not None:
            self.bytes -= key_bytes(dedupe_key)
