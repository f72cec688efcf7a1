"""Contents: what is committed of a partition, for whoever wants its events, wherever they stand.

    kept/, for queues only ──► segments, from the start on ──► tail cache, the newest as events         up to end_offset

Used by partition.py, whose face it is for readers of events. Readers of batches as they are: fetch.py.
"""
from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from routing.errors import StorageError
from routing.event import Event
from routing.log.cold import Cold
from routing.log.kept.kept import Kept
from routing.log.producing.raw import first_since
from routing.log.reader import Reader
from routing.log.records.batch import CODEC_MASK, BatchError
from routing.log.records.prints import probes_of
from routing.log.records.verdicts import Verdicts
from routing.log.segments.segment import Segment
from routing.log.tail_cache import TailCache
from routing.log.tally import Tally

TAIL_RUN_MIN = 64               # recent events looked at together
LOOKED_MAX = 4_000              # records of a batch that are looked through for a time within a turn
_ALL = 1 << 62


Answer = Callable[[tuple[int, int] | StorageError | None], None]        # offset and time


class Scan(msgspec.Struct, frozen=True):
    """The wanted events of a scan, in order; where to go on; and how many events were looked at."""

    events: list[Event]
    next_offset: int
    scanned: int


class Home(Protocol):
    """The partition: where readers begin, queues begin, and all stop; and who looks through batches aside."""

    end_offset: int

    def check(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...

    @property
    def start_offset(self) -> int: ...
    @property
    def lowest_offset(self) -> int: ...


class Contents:
    """Of one partition. Loop thread only."""

    __slots__ = ("_cache", "_home", "_kept", "_reader", "_segments")

    def __init__(self, home: Home, segments: list[Segment], kept: Kept, reader: Reader, cache: TailCache) -> None:
        self._home = home
        self._segments = segments
        self._kept = kept
        self._reader = reader
        self._cache = cache

    def scan(self, offset: int, wanted: Callable[[str], bool], *, max_events: int, max_scanned: int,
             patterns: Collection[str] | None = None, owed: bool = False, mark: bytes = b"", may_wait: bool = False,
             ) -> Scan:
        """The wanted events from offset on. Ends after max_events, after about max_scanned looked at, or at the tail.

        wanted is asked at most once per topic. Blocks and segments without a wanted topic are not read.
        patterns: filters of which one matches whatever is wanted; with them that is known without asking.
        owed: for a queue, which reads what was kept for it before the start, too.
        mark: bytes that are in each batch with anything wanted; of stored batches the others are passed over unread.
        may_wait: the caller comes again in another turn: before a large compressed batch the scan stops, as if it had
        looked at max_scanned, until that is opened (opening.py). Else it is opened at once, in one long turn.
        And where the disk has to be asked first Cold is raised, a StorageError (cold.py). Else the loop waits for it.
        """
        verdicts = Verdicts(wanted, patterns)
        verdicts.mark = mark
        events: list[Event] = []
        scanned = 0
        if owed and offset < self._home.start_offset:
            offset = max(offset, self._home.lowest_offset)
            until = min(self._kept.end_offset, self._home.start_offset)
            if offset < until:
                offset, scanned = self._kept.reader.scan(
                    offset, until, verdicts, events, max_events, max_scanned, may_wait=may_wait)
                if offset < until or len(events) >= max_events or scanned >= max_scanned:
                    return Scan(events, offset, scanned)
        offset = max(offset, self._home.start_offset)
        in_files = min(self._cache.first_offset, self._home.end_offset)
        if offset < in_files:
            try:
                offset, more = self._reader.scan(
                    offset, in_files, verdicts, events, max_events, max_scanned - scanned, may_wait=may_wait)
            except Cold:
                if not scanned:
                    raise
                return Scan(events, offset, scanned)        # what was kept for a queue; the next call gets the rest
            scanned += more
            if offset < in_files:
                return Scan(events, offset, scanned)
        if offset >= self._home.end_offset:
            return Scan(events, offset, scanned)
        for group in self._cache.groups_from(offset):
            if len(events) >= max_events or scanned >= max_scanned:
                return Scan(events, offset, scanned)
            at = max(offset - group[0].offset, 0)
            while at < len(group) and len(events) < max_events and scanned < max_scanned:
                run = group[at:at + max(2 * (max_events - len(events)), TAIL_RUN_MIN)]
                at += len(run)
                found = [event for event in run if verdicts[event.topic]]
                scanned += len(run)
                room = max_events - len(events)
                if len(found) > room:
                    return Scan(events + found[:room], found[room].offset, scanned)
                events += found
                offset = run[-1].offset + 1
            if at < len(group):
                break
        else:
            offset = max(offset, self._home.end_offset)
        return Scan(events, offset, scanned)

    def is_recent(self, offset: int) -> bool:
        """True when what stands from offset on is at hand as events."""
        return offset >= self._cache.first_offset

    def tally(self, offset: int, *, until: int, max_scanned: int, patterns: Collection[str] | None = None,
              owed: bool = False, may_wait: bool = False) -> Tally:
        """How often each topic stands in the committed events from offset on, as far as one step goes.

        It ends before until, at the end of a block, or after about max_scanned events that had to be looked at.
        patterns: only topics that one of these filters matches are asked for. owed, may_wait: as in scan().
        """
        probes = probes_of(patterns) if patterns is not None else None
        if owed and offset < self._home.start_offset:
            offset = max(offset, self._home.lowest_offset)
            end = min(self._kept.end_offset, self._home.start_offset, until)
            if offset < end:
                return self._kept.reader.tally(offset, end, max_scanned, probes, may_wait=may_wait)
        offset, until = max(offset, self._home.start_offset), min(until, self._home.end_offset)
        return self._reader.tally(offset, until, max_scanned, probes, may_wait=may_wait)

    def count(self, offset: int, wanted: Callable[[str], bool]) -> int:
        """How many committed events at or after offset have a wanted topic. All at once: not while clients wait."""
        verdicts = Verdicts(wanted)
        total = 0
        while offset < self._home.end_offset:
            found = self.tally(offset, until=self._home.end_offset, max_scanned=_ALL)
            total += sum(count for topic, count in found.counts.items() if verdicts[topic])
            offset = found.next_offset
        return total

    def offset_for_time(self, timestamp_ms: int) -> int:
        """The first offset whose timestamp is timestamp_ms or later; end_offset when there is none."""
        found = self._reader.offset_for_time(timestamp_ms)
        return self._home.end_offset if found is None else max(found, self._home.start_offset)

    def find_time(self, timestamp_ms: int, done: Answer) -> None:
        """The first offset whose timestamp is timestamp_ms or later, and that timestamp; None when there is none.

        done is called with that, or with a StorageError; later, when a batch has to be looked through on a thread.
        """
        self._look(timestamp_ms, self._home.start_offset, done)

    def find_latest(self, done: Answer) -> None:
        """The first offset with the greatest timestamp of all, and that; None when the partition is empty. KIP-734."""
        self.find_time(max(segment.max_timestamp for segment in self._segments), done)

    def _look(self, timestamp_ms: int, from_offset: int, done: Answer) -> None:
        try:
            found = self._reader.batch_since(timestamp_ms, from_offset)
        except StorageError as error:
            done(error)
            return
        if found is None:
            done(None)
            return
        header, batch = found.header, found.raw()

        def look() -> tuple[int, int] | StorageError | None:
            try:
                return first_since(batch, timestamp_ms, from_offset)
            except BatchError as error:
                return StorageError(f"the batch at {header.base_offset} cannot be read: {error}")

        def looked(outcome: tuple[int, int] | StorageError | None) -> None:
            if outcome is None:                         # its header says what none of its records does
                self._look(timestamp_ms, header.next_offset, done)
            else:
                done(outcome if isinstance(outcome, StorageError) or outcome[0] < self._home.end_offset else None)

        def work() -> None:
            outcome = look()
            self._home.on_loop(lambda: looked(outcome))

        if header.attributes & CODEC_MASK or header.record_count > LOOKED_MAX:
            self._home.check(work)
        else:
            looked(look())

    def event(self, offset: int, *, owed: bool = False) -> Event | None:
        """The committed event at offset, None when there is none (any more). owed: as in scan()."""
        if not (self._home.lowest_offset if owed else self._home.start_offset) <= offset < self._home.end_offset:
            return None
        while True:
            found = self.scan(offset, lambda topic: True, max_events=1, max_scanned=1, owed=owed)
            if found.events or found.next_offset > offset:      # else it stands far behind in a batch of many
                break
        return found.events[0] if found.events and found.events[0].offset == offset else None
