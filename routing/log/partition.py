"""A partition: an ordered log of events, as a list of segments. The public face of routing/log, with store.py.

Lives on the loop thread. Appends wait in the open group; begin_commit hands it to the writer as a WriteTask, and
end_commit takes it back. Readers see what is committed, up to end_offset: from the tail cache where they can, else
from the files.
"""
from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from routing.errors import Reason, Refusal
from routing.event import Event
from routing.log.batch import BatchError, batch_at, check_batch, place
from routing.log.codecs import available
from routing.log.commit import WriteTask
from routing.log.decode import Decoder, Verdicts, check_records, plain_batch
from routing.log.encode import Encoder
from routing.log.index import RELATIVE_OFFSET_MAX, IndexBuilder
from routing.log.reader import Reader
from routing.log.segment import Damage, Segment
from routing.log.tail_cache import TailCache
from routing.settings import Durability, StreamSettings
from routing.ticket import Ticket

log = logging.getLogger(__name__)

GROUP_BYTES_MAX = 8 * 1024 * 1024       # of one partition in one commit; the rest is the next group
FULL_RETRY_S = 1.0                      # a full disk is tried again once a second


class Scan(msgspec.Struct, frozen=True):
    """The wanted events of a scan, in order; where to go on; and how many events were looked at."""

    events: list[Event]
    next_offset: int
    scanned: int


class Owner(Protocol):
    """What a partition needs of its store."""

    pending_bytes: int
    pending_bytes_max: int
    clock_ms: Callable[[], int]

    def reject(self, ticket: Ticket, partition: Partition, refusal: Refusal) -> None: ...
    def dirty(self, partition: Partition) -> None: ...
    def later(self, work: Callable[[], None]) -> None: ...


class RawBatch(msgspec.Struct, frozen=True):
    """A batch of a Kafka producer that waits, its base offset already set."""

    data: bytes
    events: list[Event]


_OVERLOADED = Refusal(Reason.QUOTA_EXCEEDED, "too many events wait for the disk")


def _ignore(partition: Partition, events: list[Event]) -> None:
    pass


class Partition:
    def __init__(
        self, owner: Owner, settings: StreamSettings, index: int, segments: list[Segment], tail_cache_bytes: int
    ) -> None:
        """segments: as recovered, in order, at least one; the last is active."""
        self.stream = settings.name
        self.index = index
        self.settings = settings
        self.segments = segments
        self.end_offset = segments[-1].next_offset
        self.next_offset = self.end_offset
        self.failed: Refusal | None = None
        self.damage: list[Damage] = []
        self.on_committed: Callable[[Partition, list[Event]], None] = _ignore
        self.writing = False                    # a WriteTask of this partition is under way
        self.roll_wanted = False
        for segment in segments:
            segment.on_damage = self._found_damage
            self.damage += segment.damage
        self._owner = owner
        self._open: list[list[Event] | RawBatch] = []
        self._tickets: deque[tuple[int, int, Ticket]] = deque()     # offset after it, bytes, ticket
        self._full_until_s = 0.0
        self._full: Refusal | None = None
        self._encoder = Encoder(settings.compact)
        self._decoder = Decoder(self, lambda key: topic_of_key(settings, key))
        self._cache = TailCache(tail_cache_bytes, self.end_offset)
        self._reader = Reader(segments, self._decoder)

    # ------------------------------------------------------------------------------------------------ state

    @property
    def start_offset(self) -> int:
        return self.segments[0].base_offset

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def segment_count(self) -> int:
        return len(self.segments)

    @property
    def has_open_group(self) -> bool:
        return bool(self._open) or self.roll_wanted

    # ------------------------------------------------------------------------------------------------ append

    def append(self, events: list[Event], ticket: Ticket) -> None:
        """Queue events for the next commit; the ticket's share completes with it. Never blocks, never fails here."""
        if not events:
            return
        ticket.waiting += 1
        refusal = self._refusal()
        offset = self.next_offset
        size = 0
        now_ms = self._owner.clock_ms()
        for event in events:
            event.partition = self
            event.offset = offset
            if event.timestamp_ms == 0:
                event.timestamp_ms = now_ms
            offset += 1
            size += len(event.payload)
        if refusal is not None:
            for event in events:
                event.offset = -1
            self._owner.reject(ticket, self, refusal)
            return
        if self._open and type(self._open[-1]) is list:
            self._open[-1].extend(events)
        else:
            self._open.append(list(events))
        self._queued(offset, size + 100 * len(events), ticket)

    def append_raw(self, batch: bytes, ticket: Ticket) -> int:
        """Queue one RecordBatch of a Kafka producer as it is; only base offset and leader epoch are set.

        Returns its base offset, -1 when it was refused. The ticket's events, if any, must have this partition set
        for a refusal to reach them.
        """
        ticket.waiting += 1
        refusal = self._refusal()
        if refusal is None:
            base_offset = self.next_offset
            try:
                placed, events = self._accept(batch, base_offset)
            except BatchError as error:
                refusal = Refusal(Reason.PAYLOAD_INVALID, f"record batch: {error}")
        if refusal is not None:
            self._owner.reject(ticket, self, refusal)
            return -1
        self._open.append(RawBatch(placed, events))
        self._queued(base_offset + len(events), len(placed), ticket)
        return base_offset

    def _accept(self, batch: bytes, base_offset: int) -> tuple[bytes, list[Event]]:
        header = check_batch(batch)
        codec = header.attributes & 7
        if not available(codec):
            raise BatchError(f"codec {codec} is not available here")
        if header.record_count == 0:
            raise BatchError("no records")
        placed = place(batch, base_offset, first_in_group=False)
        placed_header = batch_at(placed, 0)
        assert placed_header is not None
        plain = plain_batch(placed, placed_header)
        check_records(plain, placed_header)
        events: list[Event] = []
        self._decoder.events(plain, 0, placed_header, 0, Verdicts(lambda topic: True), {}, events, 1 << 62)
        return placed, events

    def _refusal(self) -> Refusal | None:
        if self.failed is not None:
            return self.failed
        if self._full is not None:
            if time.monotonic() < self._full_until_s:
                return self._full
            self._full = None
        return _OVERLOADED if self._owner.pending_bytes > self._owner.pending_bytes_max else None

    def _queued(self, end_offset: int, size: int, ticket: Ticket) -> None:
        self.next_offset = end_offset
        self._tickets.append((end_offset, size, ticket))
        self._owner.pending_bytes += size
        self._owner.dirty(self)

    # ------------------------------------------------------------------------------------------------ commit

    def begin_commit(self) -> WriteTask:
        """Encode the open group, or as much of it as one commit takes. Nothing else is begun before end_commit."""
        segment = self.segments[-1]
        task = WriteTask(self, segment, self.settings.durability is Durability.FSYNC)
        task.end_offset = self.end_offset
        pieces: list[bytes] = []
        size = 0
        while self._open and size < GROUP_BYTES_MAX:
            first = not pieces
            item = self._open[0]
            if isinstance(item, RawBatch):
                data, events = place(item.data, task.end_offset, first_in_group=first), item.events
                del self._open[0]
            else:
                data, after = self._encoder.encode(item, 0, first_in_group=first)
                if after == len(item):
                    events = item
                    del self._open[0]
                else:
                    events, self._open[0] = item[:after], item[after:]
            header = batch_at(data, 0)
            assert header is not None and header.base_offset == task.end_offset, "offsets must be without gaps"
            task.batches.append((header, events))
            task.end_offset = header.next_offset
            pieces.append(data)
            size += len(data)
        task.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if segment.size and (
            self.roll_wanted
            or segment.size + size > self.settings.segment_bytes
            or task.end_offset - segment.base_offset > RELATIVE_OFFSET_MAX
        ):
            task.roll_at = self.end_offset
        self.roll_wanted = False
        self.writing = True
        return task

    def end_commit(self, task: WriteTask) -> Callable[[], None]:
        """Take a finished task back: move the end, or refuse what waited. Returns the notifications, to be run next."""
        self.writing = False
        if task.rolled is not None:
            self._rolled(task.rolled)
        if task.failure is not None:
            return self._refuse_waiting(task.failure)
        segment = self.segments[-1]
        committed: list[Event] = []
        for header, events in task.batches:
            segment.committed(header, [event.topic for event in events])
            committed = events if not committed else committed + events
        self.end_offset = task.end_offset
        self._cache.add(committed, len(task.data), task.end_offset)
        done: list[Ticket] = []
        while self._tickets and self._tickets[0][0] <= task.end_offset:
            _, size, ticket = self._tickets.popleft()
            self._owner.pending_bytes -= size
            done.append(ticket)

        def notify() -> None:
            if committed:
                self.on_committed(self, committed)
            for ticket in done:
                ticket.part_done()

        return notify

    def _rolled(self, new: Segment) -> None:
        self._owner.later(self.segments[-1].seal())
        new.builder = IndexBuilder(new.base_offset)
        new.on_damage = self._found_damage
        self.segments.append(new)

    def _refuse_waiting(self, refusal: Refusal) -> Callable[[], None]:
        """Refuse everything that is not committed: its offsets are free again."""
        if refusal.reason is Reason.STORAGE_FULL:
            self._full, self._full_until_s = refusal, time.monotonic() + FULL_RETRY_S
        else:
            self.failed = refusal
        refused = [ticket for _, _, ticket in self._tickets]
        self._owner.pending_bytes -= sum(size for _, size, _ in self._tickets)
        self._tickets.clear()
        self._open.clear()
        self.next_offset = self.end_offset

        def notify() -> None:
            for ticket in refused:
                ticket.part_failed(self, refusal)

        return notify

    def close(self) -> None:
        """Cut the reserved space off the active segment, sync it and save its checkpoint. Nothing may be under way."""
        active = self.segments[-1]
        if self.failed is None:
            try:
                active.file().truncate(active.size)
                active.file().datasync()
                if not active.damage:
                    active.sidecars()()
            except OSError as error:
                log.error("%s: cannot be closed cleanly: %s; it will be read at the next start", active.path(), error)
        for segment in self.segments:
            segment.close()

    # ------------------------------------------------------------------------------------------------ read

    def scan(self, offset: int, wanted: Callable[[str], bool], *, max_events: int, max_scanned: int) -> Scan:
        """The wanted events from offset on. Ends after max_events, after about max_scanned looked at, or at the tail.

        wanted is asked at most once per topic. Blocks and segments without a wanted topic are not read.
        """
        offset = max(offset, self.start_offset)
        verdicts = Verdicts(wanted)
        events: list[Event] = []
        scanned = 0
        if offset < self._cache.first_offset:
            offset, scanned = self._reader.scan(
                offset, self._cache.first_offset, verdicts, events, max_events, max_scanned
            )
            if offset < self._cache.first_offset:
                return Scan(events, offset, scanned)
        for group in self._cache.groups_from(offset):
            if len(events) >= max_events or scanned >= max_scanned:
                return Scan(events, offset, scanned)
            first = group[0].offset
            run = group[offset - first:] if offset > first else group
            found = [event for event in run if verdicts[event.topic]]
            scanned += len(run)
            room = max_events - len(events)
            if len(found) > room:
                return Scan(events + found[:room], found[room].offset, scanned)
            events += found
            offset = max(offset, group[-1].offset + 1)
        return Scan(events, max(offset, self.end_offset), scanned)

    def read(self, offset: int, max_bytes: int) -> list[bytes]:
        """Whole RecordBatches from the one that holds offset (or the next there is): at least one, if there is one."""
        return self._reader.read(max(offset, self.start_offset), max_bytes)

    def count(self, offset: int, wanted: Callable[[str], bool]) -> int:
        """How many committed events at or after offset have a wanted topic."""
        return self._reader.count(max(offset, self.start_offset), Verdicts(wanted))

    def offset_for_time(self, timestamp_ms: int) -> int:
        """The first offset whose timestamp is timestamp_ms or later; end_offset when there is none."""
        found = self._reader.offset_for_time(timestamp_ms)
        return self.end_offset if found is None else found

    def event(self, offset: int) -> Event | None:
        """The committed event at offset, None when there is none (any more)."""
        if not self.start_offset <= offset < self.end_offset:
            return None
        events = self.scan(offset, lambda topic: True, max_events=1, max_scanned=1).events
        return events[0] if events and events[0].offset == offset else None

    def _found_damage(self, damage: Damage) -> None:
        log.error("stream %s partition %d: %s", self.stream, self.index, damage)
        self.damage.append(damage)


def topic_of_key(settings: StreamSettings, key: bytes | None) -> str:
    """The topic of a record that names none: the stream's template, or its name."""
    if settings.topic is None:
        return settings.name
    return settings.topic.replace("{key}", escape_level(key or b""))


def escape_level(key: bytes) -> str:
    """A record key as one topic level. Separators, wildcards and what is no text are percent-encoded."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 < byte < 0x7F and byte not in b"%+#/$" else f"%{byte:02X}" for byte in key)
    return "".join(f"%{ord(char):02X}" if char in "%+#/\0" else char for char in text)
