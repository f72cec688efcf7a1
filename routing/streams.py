"""The streams of a tenant: which stream and partition an event belongs to.

Every event belongs to the one stream whose capture filter matches its topic most specifically, or to none.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from routing.settings import StreamSettings
from routing.topic import filter_matches, filters_intersect, specificity

if TYPE_CHECKING:
    from routing.log.partition import Partition


class Stream:
    """A durable named log: its settings and its partitions."""

    __slots__ = ("name", "partitions", "settings")

    def __init__(self, settings: StreamSettings, partitions: list[Partition]) -> None:
        self.name = settings.name
        self.settings = settings
        self.partitions = partitions

    def partition_for(self, key: bytes) -> Partition:
        """The partition of a key, chosen as Kafka's default partitioner does it, so that clients agree with us."""
        if len(self.partitions) == 1:
            return self.partitions[0]
        return self.partitions[(murmur2(key) & 0x7FFFFFFF) % len(self.partitions)]


class StreamTable:
    """All streams by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Stream] = {}

    def add(self, stream: Stream) -> None:
        self.by_name[stream.name] = stream

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.by_name.values())

    def partition(self, stream: str, index: int) -> Partition | None:
        """A partition by its place, None when there is none (any more)."""
        found = self.by_name.get(stream)
        return found.partitions[index] if found is not None and 0 <= index < len(found.partitions) else None

    def capture(self, topic: str) -> Stream | None:
        """The stream that an event of this topic goes to. Ties go to the stream named first."""
        best: Stream | None = None
        best_rank: tuple[int, ...] = ()
        for stream in self.by_name.values():
            for pattern in stream.settings.capture:
                if filter_matches(pattern, topic):
                    rank = specificity(pattern)
                    if best is None or rank > best_rank:
                        best, best_rank = stream, rank
        return best

    def holding(self, filters: Iterable[str], names: tuple[str, ...] = ()) -> list[Partition]:
        """Partitions that can hold events of these filters; names, when given, limits the streams."""
        wanted = list(filters)
        return [
            partition
            for stream in self.by_name.values()
            if (not names or stream.name in names)
            and any(filters_intersect(pattern, capture) for pattern in wanted for capture in stream.settings.capture)
            for partition in stream.partitions
        ]


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 (32 bit, seed 0x9747b28c), as an unsigned number.      Source: Kafka clients, Utils.murmur2"""
    length = len(data)
    mixer = 0x5BD1E995
    value = 0x9747B28C ^ length
    for start in range(0, length - length % 4, 4):
        word = int.from_bytes(data[start:start + 4], "little")
        word = word * mixer & 0xFFFFFFFF
        word ^= word >> 24
        word = word * mixer & 0xFFFFFFFF
        value = (value * mixer & 0xFFFFFFFF) ^ word
    rest = data[length - length % 4:]
    if rest:
        value ^= int.from_bytes(rest, "little")
        value = value * mixer & 0xFFFFFFFF
    value ^= value >> 13
    value = value * mixer & 0xFFFFFFFF
    return value ^ value >> 15
