"""The streams of a tenant, open in their store: which stream and partition an event belongs to.

Every event belongs to the one stream whose capture filter matches its topic most specifically, or to none.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from routing.errors import StorageError
from routing.filters.filter_trie import FilterTrie
from routing.settings import StreamSettings
from routing.topic import filter_covers, filters_intersect, specificity

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.log.producing.raw import Run
    from routing.log.store import Store

INCARNATION_DIGITS = 16         # of its incarnation, in the name that other nodes know a stream by
OPENED_PER_STEP = 5             # partitions: some 2 ms
INTERNAL_SEGMENT_BYTES = 32 * 1024 * 1024      # small, so that compaction soon gets at them


def stream_of(origin_name: str) -> str:
    """The name of a stream by that which other nodes know it by: one that was made at run time is name@incarnation."""
    name, at, incarnation = origin_name.rpartition("@")
    return name if at and len(incarnation) == INCARNATION_DIGITS else origin_name


class Stream:
    """A durable named log: its settings and its partitions."""

    __slots__ = ("filters", "incarnation", "name", "order", "origin_name", "partitions", "settings")

    def __init__(self, settings: StreamSettings, partitions: list[Partition]) -> None:
        self.name = settings.name
        self.settings = settings
        self.partitions = partitions
        self.order = 0                                  # of their opening
        self.filters = stream_filters(settings)         # all topics that its events can have
        self.incarnation = b""                          # 16 bytes, others when it is made again (lifecycle.py)
        self.origin_name = settings.name                # what other nodes know it by

    def partition_for(self, key: bytes) -> Partition:
        """The partition of a key, chosen as Kafka's default partitioner does it, so that clients agree with us."""
        if len(self.partitions) == 1:
            return self.partitions[0]
        return self.partitions[(murmur2(key) & 0x7FFFFFFF) % len(self.partitions)]


def stream_filters(settings: StreamSettings) -> tuple[str, ...]:
    """All topics that its events can have: those it captures, and its own, of records that name none."""
    own = settings.name if settings.topic is None else settings.topic.replace("{key}", "+")
    if "+" in own:                                  # a level that is part text, part key, may be any
        own = "/".join("+" if "+" in level else level for level in own.split("/"))
    if any(filter_covers(pattern, own) for pattern in settings.capture):
        return settings.capture
    return (*settings.capture, own)


class _Capture(NamedTuple):
    """What stands under a capture filter. The largest wins: the most specific one, then the stream opened first."""

    rank: tuple[int, ...]
    order: int
    stream: str


class StreamTable:
    """All streams by name, but for the internal ones, which capture nothing."""

    def __init__(self, store: Store, on_committed: Callable[[Partition, Run], None],
                 on_settled: Callable[[Partition, int, set[str] | None], None],
                 on_refused: Callable[[Partition], None]) -> None:
        """on_committed: told of every group of events that became durable in a captured stream.

        on_settled: told from where on a partition may be read that open transactions had held back, and which topics.
        on_refused: told when what waits in a partition to become durable does not become so.
        """
        self.by_name: dict[str, Stream] = {}
        self._by_origin_name: dict[str, Stream] = {}
        self._captures = FilterTrie()                   # capture filter → _Capture
        self._holders = FilterTrie()                    # what a stream can hold → Stream
        self._order = 0
        self._store = store
        self._on_committed = on_committed
        self._on_settled = on_settled
        self._on_refused = on_refused
        self._starting: list[Partition] | None = []     # opened before started(), the internal ones too

    def open(self, settings: StreamSettings, partitions: list[Partition] | None = None) -> Stream:
        """partitions: its own, opened in steps; None: they are opened now."""
        if partitions is None:
            partitions = self._open(settings)
        self._listen(partitions)
        stream = self.by_name[settings.name] = Stream(settings, partitions)
        self._order += 1
        stream.order = self._order
        for pattern in settings.capture:
            self._captures.add(pattern, _Capture(specificity(pattern), -stream.order, stream.name))
        for pattern in stream.filters:
            self._holders.add(pattern, stream)
        return stream

    def _listen(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            partition.on_committed = self._on_committed
            partition.on_settled = self._on_settled
            partition.on_refused = self._on_refused

    def name_for_others(self, stream: Stream, name: str) -> None:
        """What other nodes know the stream by."""
        self._by_origin_name.pop(stream.origin_name, None)
        stream.origin_name = name
        self._by_origin_name[name] = stream
        for partition in stream.partitions:
            partition.origin_name = name

    def open_in_steps(self, settings: StreamSettings, first: int,
                      done: Callable[[list[Partition] | StorageError], None]) -> Iterator[None]:
        """Open the partitions from first on, some in each turn of the loop: for open() or grow()."""
        opened: list[Partition] = []
        try:
            for start in range(first, settings.partitions, OPENED_PER_STEP):
                if opened:
                    yield
                opened += self._store.open_more(
                    settings, start, min(start + OPENED_PER_STEP, settings.partitions))
        except StorageError as error:
            self._store.close_again(opened)
            done(error)
            return
        for partition in opened:
            partition.be_patient(True)
        done(opened)

    def grow(self, stream: Stream, settings: StreamSettings, fresh: list[Partition]) -> None:
        """fresh: the partitions that the stream has too few of."""
        for partition in fresh:
            partition.origin_name = stream.origin_name
        self._listen(fresh)
        stream.partitions += fresh
        self._take_settings(stream, settings)

    def close(self, stream: Stream) -> None:
        """The stream is gone: nothing is captured by it any more, and nobody finds it."""
        del self.by_name[stream.name]
        self._by_origin_name.pop(stream.origin_name, None)
        for pattern in stream.settings.capture:
            self._captures.remove(pattern, _Capture(specificity(pattern), -stream.order, stream.name))
        for pattern in stream.filters:
            self._holders.remove(pattern, stream)

    def partition_of_origin(self, name: str, index: int) -> Partition | None:
        """A partition by the name that other nodes know its stream by."""
        found = self._by_origin_name.get(name)
        return found.partitions[index] if found is not None and 0 <= index < len(found.partitions) else None

    def _take_settings(self, stream: Stream, settings: StreamSettings) -> None:
        for pattern in stream.settings.capture:
            self._captures.remove(pattern, _Capture(specificity(pattern), -stream.order, stream.name))
        for pattern in settings.capture:
            self._captures.add(pattern, _Capture(specificity(pattern), -stream.order, stream.name))
        stream.settings = settings
        for pattern in stream.filters:
            self._holders.remove(pattern, stream)
        stream.filters = stream_filters(settings)
        for pattern in stream.filters:
            self._holders.add(pattern, stream)
        for partition in stream.partitions:
            partition.settings = settings

    def open_internal(self, name: str, *, compact: bool = True, retention_ms: int | None = None,
                      retention_bytes: int | None = None) -> Partition:
        """The one partition of a stream of the node itself. Nobody captures it; unless told, it is kept for ever."""
        return self._open(StreamSettings(name, compact=compact, segment_bytes=INTERNAL_SEGMENT_BYTES,
                                         retention_ms=retention_ms, retention_bytes=retention_bytes))[0]

    def _open(self, settings: StreamSettings) -> list[Partition]:
        partitions = self._store.open_stream(settings)
        for partition in partitions:
            partition.be_patient(self._starting is None)
        if self._starting is not None:
            self._starting += partitions
        return partitions

    def started(self) -> None:
        """All that is read at start has been read: from now on somebody tries again what could not be."""
        for partition in self._starting or ():
            partition.be_patient(True)
        self._starting = None

    def apply(self, settings: list[StreamSettings]) -> list[Stream]:
        """Reload: open streams that are new and take over changed settings. A stream is never removed here.

        Returns those that are not what they were.
        """
        changed = []
        for stream in settings:
            known = self.by_name.get(stream.name)
            if known is None:
                self.open(stream)
                changed.append(self.by_name[stream.name])
            elif known.settings != stream:
                self._take_settings(known, stream)
                changed.append(known)
        return changed

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.by_name.values())

    def partition(self, stream: str, index: int) -> Partition | None:
        """A partition by its place, None when there is none (any more)."""
        found = self.by_name.get(stream)
        return found.partitions[index] if found is not None and 0 <= index < len(found.partitions) else None

    def capture(self, topic: str) -> Stream | None:
        """The stream that an event of this topic goes to. Ties go to the stream named first."""
        found = self._captures.match(topic)
        return self.by_name[max(found).stream] if found else None

    def holding(self, filters: Iterable[str], names: tuple[str, ...] = (),
                among: Iterable[Stream] | None = None) -> list[Partition]:
        """Partitions that can hold events of these filters; names, when given, limits the streams, and so does among.
        """
        wanted = filters if isinstance(filters, (dict, tuple, list)) else list(filters)
        if among is None:
            found: dict[Stream, None] = {}
            for pattern in wanted:
                found.update(self._holders.intersecting(pattern))
            streams = sorted(found, key=lambda stream: stream.order)
        else:
            streams = [stream for stream in among if any(
                filters_intersect(pattern, capture) for pattern in wanted for capture in stream.filters)]
        return [partition for stream in streams if not names or stream.name in names for partition in stream.partitions]


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
