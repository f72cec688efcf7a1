"""Reading a partition's files: scans with a topic filter, raw batches, counts, offsets by time.

Used by partition.py on the loop, for what the tail cache does not hold. A reader names only an offset; the place in
the file where its last call ended is remembered in `_hints`, so that going on needs no search.

may_wait: whoever asks comes again. What is not in the page cache raises Cold (cold.py), unless something was found
before it, and a large compressed batch is opened aside (opening.py).
"""
from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import partial

import msgspec

from routing.event import Event
from routing.log.cold import Cold, ColdReads
from routing.log.handles import OpenSegments
from routing.log.opening import Opener
from routing.log.producing.producers import HIDEABLE, ProducerTable
from routing.log.records.batch import CODEC_MASK, HEADER_BYTES, BatchHeader
from routing.log.records.decode import Decoder, Seen, plain_batch
from routing.log.records.prints import Probes, may_hold
from routing.log.records.verdicts import Verdicts
from routing.log.segments.segment import Found, Read, Segment
from routing.log.segments.summary import Summary
from routing.log.tally import Tally

HINTS_MAX = 256             # readers whose place in the files is remembered
SKIP_COST = 16              # a skipped block counts as so many looked-at events, so that one call is bounded,
BYTES_PER_EVENT = 256       # and so much of a batch counts as one: 1 MiB in a turn of 4,096 is 7 ms of a 150 MB/s disk,
LOOKED_MAX = 16_384         # records of one batch that are looked at in one step: some 3 ms where none is wanted
OPENED_BYTES = 512 * 1024   # of wanted events of a compressed batch in one step: copied, and soon sent
SEGMENT_ASKED_MAX = 256     # topics of a segment that are asked for at once
TIME_STEP = 64              # records looked at at a time for the first one since a time
TOPICS_PER_EVENT = 16       # and so does asking about so many topics


class Hint(msgspec.Struct, frozen=True):
    """A place to go on: the batch, and the record in it by number and by its place in the (expanded) batch."""

    segment: Segment
    position: int
    base_offset: int
    index: int = 0
    relative: int = HEADER_BYTES


class Reader:
    __slots__ = (
        "_cold", "_decoder", "_hints", "_open", "_opener", "_producers", "_unfinished", "patient", "segments")

    def __init__(self, segments: list[Segment], decoder: Decoder, open_segments: OpenSegments,
                 producers: ProducerTable, opener: Opener, cold: ColdReads) -> None:
        """segments: the partition's own list, which grows and shrinks. producers: which batches nobody is to see."""
        self._cold = cold
        self._opener = opener
        self.segments = segments
        self.patient = True         # a page that cannot be read is tried again before it counts as damage
        self._decoder = decoder
        self._hints: OrderedDict[int, Hint] = OrderedDict()
        self._open = open_segments
        self._producers = producers
        self._unfinished: tuple[Segment, Found] | None = None

    def forget(self, segment: Segment) -> None:
        """The segment is no longer part of the partition."""
        self._unfinished = None
        self._open.forget(segment)

    # -------------------------------------------------------------------------------------------- scan

    def scan(
        self, offset: int, until: int, verdicts: Verdicts, events: list[Event], max_events: int, max_scanned: int,
        *, may_wait: bool = False,
    ) -> tuple[int, int]:
        """Append wanted events below until. Returns the offset to go on from and how many were looked at.

        may_wait: before a large compressed batch it stops, as if it had looked at max_scanned, until that is opened.
        """
        seen: Seen = {}
        scanned = 0
        start = offset
        while offset < until and scanned < max_scanned and len(events) < max_events:
            try:
                segment, following = self.segment_of(offset, may_wait=may_wait)
                if offset >= segment.next_offset:           # a gap, which damage or compaction left
                    offset = min(following, until)
                    continue
                skip_to, cost = self._skip(segment, offset, verdicts, max_scanned - scanned)
                if skip_to > offset:
                    offset = skip_to
                    scanned += cost
                    continue
                end = min(until, self._block_end(segment, offset))
                offset, more = self._scan_block(
                    segment, offset, end, verdicts, seen, events, max_events, max_scanned - scanned, may_wait
                )
                scanned += more
            except Cold:
                if offset == start:
                    raise
                break
        return offset, scanned

    def _scan_block(
        self,
        segment: Segment,
        offset: int,
        end: int,
        verdicts: Verdicts,
        seen: Seen,
        events: list[Event],
        max_events: int,
        max_scanned: int,
        may_wait: bool = False,
    ) -> tuple[int, int]:
        read = partial(self._cold.read, segment) if may_wait else None
        hint = self._place(segment, offset, read)
        scanned = 0
        start = offset
        batches = self._batches(hint, read)
        found: Found | None = None
        while True:
            try:
                found = next(batches, None)
            except Cold:
                if offset == start or found is None:
                    raise
                self._remember(offset, Hint(segment, found.position + found.header.size, offset))
                return offset, scanned                      # the next call gets it
            if found is None:
                return max(offset, end), scanned
            header = found.header
            if header.next_offset <= offset:
                continue
            if header.base_offset >= end:
                self._remember(offset, Hint(segment, found.position, header.base_offset))
                return max(offset, end), scanned
            if header.attributes & HIDEABLE and self._hides(header):
                offset = header.next_offset
                scanned += 1
                continue
            data, at, batch_end = found.data, found.at, found.at + header.size
            limit, size = max_events, header.size
            if header.attributes & CODEC_MASK:
                opened = self._opener.open(self._decoder, header, found.raw, may_wait=may_wait)
                if opened is None:
                    self._unfinished = segment, found
                    place = hint if found.position == hint.position else Hint(
                        segment, found.position, header.base_offset)
                    self._remember(offset, place)
                    return offset, max(scanned, max_scanned)
                data, at, batch_end, size = opened, 0, len(opened), len(opened)
                limit = min(max_events, len(events) + OPENED_BYTES * header.record_count // size + 1)
            if verdicts.mark and data.find(verdicts.mark, at, batch_end) < 0:
                offset = header.next_offset
                scanned += 1
                continue
            index, relative = (
                (hint.index, hint.relative) if found.position == hint.position else (0, HEADER_BYTES)
            )
            offset, index_after, relative = self._decoder.events(
                data, at, header, offset, verdicts, seen, events, limit, index, relative, LOOKED_MAX
            )
            scanned += max(index_after - index, size // BYTES_PER_EVENT)
            if offset < header.next_offset:                 # of one step
                self._unfinished = segment, found
                self._remember(offset, Hint(segment, found.position, header.base_offset, index_after, relative))
                return offset, scanned
            if len(events) >= max_events or scanned >= max_scanned:
                self._remember(offset, Hint(segment, found.position + header.size, offset))
                return offset, scanned

    def _hides(self, header: BatchHeader) -> bool:
        return self._producers.hides(header.attributes, header.producer_id, header.base_offset)

    def _batches(self, hint: Hint, read: Read | None) -> Iterator[Found]:
        """The batches from a place on. The one that the last scan stopped in need not be read again."""
        position, base_offset = hint.position, hint.base_offset
        if self._unfinished is not None:
            segment, found = self._unfinished
            if segment is hint.segment and found.position == position:
                self._unfinished = None
                yield found
                position, base_offset = position + found.header.size, found.header.next_offset
        yield from hint.segment.batches(position, base_offset, read)

    def _place(self, segment: Segment, offset: int, read: Read | None = None) -> Hint:
        hint = self._hints.get(offset)      # it stays: other readers may come by here
        if hint is None or hint.segment is not segment:
            hint = Hint(segment, *segment.locate(offset, read))
        return hint

    def _remember(self, offset: int, hint: Hint) -> None:
        self._hints[offset] = hint
        self._hints.move_to_end(offset)
        if len(self._hints) > HINTS_MAX:
            self._hints.popitem(last=False)

    def _skip(self, segment: Segment, offset: int, verdicts: Verdicts, room: int) -> tuple[int, int]:
        """The first offset at or after offset whose block may hold a wanted topic (or the segment's end), and the cost.

        The cost is in looked-at events, so that a call that only skips is bounded too, by room.
        """
        summary = segment.summary()
        blocks = summary.blocks
        if not blocks:
            return offset, 0
        asked = len(verdicts)
        if summary.is_complete and self._holds_nothing(summary, verdicts):
            return segment.next_offset, SKIP_COST + len(verdicts) - asked
        index = summary.block_index(offset)
        cost = 0
        while index < len(blocks) and cost < room and not blocks[index].may_hold(summary, verdicts):
            cost += SKIP_COST + len(blocks[index].counts or ()) // TOPICS_PER_EVENT + len(verdicts) - asked
            asked = len(verdicts)
            index += 1
        if not cost:
            return offset, 0
        return (blocks[index].first_offset if index < len(blocks) else segment.next_offset), cost

    def _holds_nothing(self, summary: Summary, verdicts: Verdicts) -> bool:
        """False also when asking for all its topics would take long: its blocks are asked one by one then."""
        if verdicts.exact is not None:
            return all(summary.number(topic) < 0 for topic in verdicts.exact)
        return len(summary.topics) <= SEGMENT_ASKED_MAX and not any(verdicts[topic] for topic in summary.topics)

    def _block_end(self, segment: Segment, offset: int) -> int:
        """The offset where the next block begins that must be asked again whether it can be skipped."""
        summary = segment.summary()
        index = summary.block_index(offset) + 1
        return summary.blocks[index].first_offset if index < len(summary.blocks) else segment.next_offset

    # -------------------------------------------------------------------------------------------- the others

    def read(self, offset: int, max_bytes: int) -> list[bytes]:
        """Raw batches from the one that holds offset; at least one if there is one."""
        batches: list[bytes] = []
        size = 0
        end = self.segments[-1].next_offset
        while offset < end:
            segment, following = self.segment_of(offset)
            if offset >= segment.next_offset:
                offset = following
                continue
            hint = self._place(segment, offset)
            for found in segment.batches(hint.position, hint.base_offset):
                if found.header.next_offset <= offset:
                    continue
                if batches and size + found.header.size > max_bytes:
                    self._remember(offset, Hint(segment, found.position, found.header.base_offset))
                    return batches
                batches.append(found.raw())
                size += found.header.size
                offset = found.header.next_offset
            offset = max(offset, segment.next_offset)
        return batches

    def newest(self) -> dict[bytes, bytes]:
        """The newest value of each key that has one, of a partition that holds a table. All at once: at a start."""
        found: dict[bytes, bytes] = {}
        for segment in self.segments:
            self._use(segment)
            for batch in segment.batches(0, segment.base_offset):
                self._decoder.newest(plain_batch(batch.raw(), batch.header), batch.header, found)
        return found

    def tally(self, offset: int, until: int, max_scanned: int, probes: Probes | None, *, may_wait: bool = False,
              ) -> Tally:
        """Count the events from offset on by topic: a whole block by its summary, or a piece of one by reading it.

        may_wait: as in scan().
        """
        if offset >= until:
            return Tally({}, until, 0)
        segment, following = self.segment_of(offset, may_wait=may_wait)
        if offset >= segment.next_offset:
            return Tally({}, min(max(following, offset), until), 1)
        summary = segment.summary()
        end = min(until, self._block_end(segment, offset))
        if summary.blocks:
            index = summary.block_index(offset)
            block = summary.blocks[index]
            if block.first_offset == offset and block.numbers is not None and block.counts is not None and (
                    end == self._block_end(segment, offset)) and not self._producers.aborted_between(offset, end):
                counts = {summary.topics[number]: count for number, count in zip(block.numbers, block.counts)}
                return Tally(counts, end, SKIP_COST + len(counts) // TOPICS_PER_EVENT)
            if block.numbers is None and block.prints is not None and not may_hold(block.prints, probes):
                return Tally({}, end, SKIP_COST)
        events: list[Event] = []
        reached, scanned = self._scan_block(
            segment, offset, end, Verdicts(lambda topic: True), {}, events, max_scanned, max_scanned, may_wait)
        reached = min(reached, end)
        return Tally(Counter([event.topic for event in events if event.offset < end]), reached, max(scanned, 1))

    def offset_for_time(self, timestamp_ms: int) -> int | None:
        """The first offset whose timestamp is timestamp_ms or later."""
        found = self.batch_since(timestamp_ms, 0)
        while found is not None:
            offset = self._first_since(found, timestamp_ms)
            if offset is not None:
                return offset
            found = self.batch_since(timestamp_ms, found.header.next_offset)
        return None

    def batch_since(self, timestamp_ms: int, from_offset: int) -> Found | None:
        """The first batch from an offset on that has such a record, as its header says."""
        for segment in self.segments:
            if segment.max_timestamp < timestamp_ms or segment.next_offset <= from_offset:
                continue
            self._use(segment)
            start = segment.offset_before_time(timestamp_ms)
            for found in segment.batches(*segment.locate(start)):
                header = found.header
                if header.max_timestamp < timestamp_ms or header.next_offset <= from_offset or not header.record_count:
                    continue
                if not (header.attributes & HIDEABLE and self._hides(header)):
                    return found
        return None

    def _first_since(self, found: Found, timestamp_ms: int) -> int | None:
        """The first offset of a batch with that time or a later one; a few records at a time, as most are early."""
        plain = self._opener.open(self._decoder, found.header, found.raw, may_wait=False) if (
            found.header.attributes & CODEC_MASK) else found.raw()
        assert plain is not None
        verdicts = Verdicts(lambda topic: True)
        seen: Seen = {}
        index, relative, offset = 0, HEADER_BYTES, 0
        while offset < found.header.next_offset:
            events: list[Event] = []
            offset, index, relative = self._decoder.events(
                plain, 0, found.header, 0, verdicts, seen, events, TIME_STEP, index, relative)
            for event in events:
                if event.timestamp_ms >= timestamp_ms:
                    return event.offset
            if not events:
                return None
        return None

    # -------------------------------------------------------------------------------------------- segments

    def _index_of(self, offset: int) -> int:
        return max(0, bisect_right(self.segments, offset, key=lambda segment: segment.base_offset) - 1)

    def segment_of(self, offset: int, *, may_wait: bool = False) -> tuple[Segment, int]:
        """The last segment that begins at or before offset, and where the one after it begins."""
        index = self._index_of(offset)
        segment = self.segments[index]
        if may_wait:
            self._cold.open(segment)
        self._use(segment)
        following = self.segments[index + 1].base_offset if index + 1 < len(self.segments) else segment.next_offset
        return segment, following

    def _use(self, segment: Segment) -> None:
        """Keep file and summary of the segments that were used last, and of no more."""
        segment.pages.patient = self.patient
        if segment.builder is None:                         # the active one stays open
            self._open.use(segment)
