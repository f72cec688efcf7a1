"""Origins: which stored batches of a partition came as they are from other nodes, and where they stood there.

An event of another node says in its own headers where it comes from (fields.py). A batch that travelled as it was
stored cannot: its checksum covers the records, and they may be compressed. So that stands beside the log, in the file
`<partition>/origins` (segments/origin_file.py), and is looked up here by offset.

    here   1000 ─────── 1400 │ 1400 ── 1450 │          a span: the same node, partition and flow, the same distance
    there  8000 ─────── 8400 │  own events  │          between both offsets. Spans that go on each other are one

Used by decode.py for every batch that is read, so an empty table costs a look at one list.
"""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

import google_crc32c
import msgspec

from routing.event import Event, OriginPartition

SPANS_MAX: Final = 50_000       # of one partition, some 10 MB; with more of them nothing is taken as it is


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Offsets here, first ≤ offset < next, which were there, there ≤ offset, at an origin partition."""

    first: int
    next: int
    there: int
    flow: int
    node: str
    epoch: str
    stream: str
    index: int

    @property
    def origin(self) -> OriginPartition:
        return OriginPartition(self.node, self.epoch, self.stream, self.index)

    def goes_on(self, other: Span) -> bool:
        """Does other begin where this one ends, here and there?"""
        return (
            other.first == self.next and other.there - other.first == self.there - self.first
            and other.flow == self.flow and other.origin == self.origin)


class Came(msgspec.Struct, frozen=True):
    """Where a batch comes from that is about to be stored: its origin, the offset of its first record there, the flow.
    """

    origin: OriginPartition
    there: int
    flow: int

    def span(self, first: int, next_offset: int) -> Span:
        """Once its place here is known."""
        origin = self.origin
        return Span(first, next_offset, self.there, self.flow, origin.node, origin.epoch, origin.stream, origin.index)


class OriginTable:
    """Those of one partition, in order. Loop thread only."""

    __slots__ = ("_firsts", "_origins", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._firsts: list[int] = []
        self._origins: dict[OriginPartition, OriginPartition] = {}      # one object for each

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def is_full(self) -> bool:
        return len(self.spans) >= SPANS_MAX

    def add(self, span: Span) -> None:
        """It begins behind all that are known."""
        if self.spans and self.spans[-1].goes_on(span):
            self.spans[-1] = msgspec.structs.replace(self.spans[-1], next=span.next)
            return
        self.spans.append(span)
        self._firsts.append(span.first)

    def at(self, offset: int) -> Span | None:
        """The span that an offset stands in; None: it is of no batch that came as it is."""
        index = bisect_right(self._firsts, offset) - 1
        return self.spans[index] if index >= 0 and offset < self.spans[index].next else None

    def before(self, offset: int, spans_max: int) -> Iterator[Span]:
        """The last spans that begin before an offset, the nearest first."""
        index = bisect_left(self._firsts, offset)
        return reversed(self.spans[max(index - spans_max, 0):index])

    def next_first(self, offset: int) -> int:
        """Where the first span behind an offset begins."""
        index = bisect_right(self._firsts, offset)
        return self._firsts[index] if index < len(self._firsts) else 1 << 62

    def mark(self, base_offset: int, events: list[Event], begin: int) -> None:
        """Say of the events from begin on, which are of the batch at base_offset, where they come from."""
        span = self.at(base_offset)
        if span is None:
            return
        made = span.origin
        origin = self._origins.setdefault(made, made)
        distance = span.there - span.first
        for event in events[begin:] if begin else events:
            event.origin, event.origin_offset, event.flow = origin, event.offset + distance, span.flow

    def forget_before(self, offset: int) -> None:
        count = 0
        while count < len(self.spans) and self.spans[count].next <= offset:
            count += 1
        del self.spans[:count], self._firsts[:count]


def encode_line(span: Span) -> bytes:
    """As it stands in the file: checksum, space, JSON, end of line."""
    line = msgspec.json.encode(span)
    return b"%08x %s\n" % (google_crc32c.value(line), line)


def decode_line(line: bytes) -> Span | None:
    """None: it is damaged. line: without its end."""
    checksum, _, body = line.partition(b" ")
    try:
        if int(checksum, 16) == google_crc32c.value(body):
            return msgspec.json.decode(body, type=Span)
    except (ValueError, msgspec.MsgspecError):
        pass
    return None
