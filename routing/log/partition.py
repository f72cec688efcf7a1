"""A partition: an ordered log of events, as a list of segments. The public face of routing/log, with store.py.

Lives on the loop thread. Appends wait in the open group; begin_commit hands it to the writer as a Commit, and
end_commit takes it back. Readers see what is committed, up to end_offset: from the tail cache where they can, else
from the files.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from routing.errors import Fault, Reason, Refusal
from routing.event import Event
from routing.log.cold import ColdReads
from routing.log.committing.commit import WriteTask
from routing.log.committing.group import OpenGroup
from routing.log.committing.offsets import RESERVED, drop_reservation, read_reservation
from routing.log.committing.shortage import Shortage
from routing.log.contents import Contents
from routing.log.fetch import Answer, Fetched, Fetcher, OutOfRange
from routing.log.handles import OpenSegments
from routing.log.kept.kept import Kept
from routing.log.kept.owed import Owed
from routing.log.opening import Opener
from routing.log.producing.door import Ask, RawDoor
from routing.log.producing.held import Held
from routing.log.producing.markers import build_marker
from routing.log.producing.producers import ProducerTable
from routing.log.producing.raw import Checked, RawBatch, Run, Terms, topics_of
from routing.log.producing.restore import restore
from routing.log.reader import Reader
from routing.log.records.batch import check_header
from routing.log.records.decode import Decoder
from routing.log.records.origins import Came, OriginTable, encode_line
from routing.log.segments.damage import Damage
from routing.log.segments.index import RELATIVE_OFFSET_MAX
from routing.log.segments.origin_file import OriginFile
from routing.log.segments.segment import Segment
from routing.log.tail_cache import TailBudget, TailCache
from routing.log.template import topic_of_key
from routing.log.trim import Trim
from routing.log.upkeep import CHECKPOINT_BYTES, Upkeep
from routing.settings import Durability, StreamSettings
from routing.ticket import Part, Ticket

log = logging.getLogger(__name__)

GROUP_BYTES_MAX = 8 * 1024 * 1024       # of one partition in one commit; the rest is the next group
EVENT_COST_BYTES = 100                  # of a waiting event beside its payload, for the budget of pending bytes

_OVERLOADED = Refusal(Reason.QUOTA_EXCEEDED, "too many events wait for the disk")
_TERMS = Terms(1024 * 1024 + 12, 1024 * 1024, 1024)


def is_below(run: Run, offset: int) -> bool:
    """Every event of the run stands before offset."""
    return (run.next_offset if isinstance(run, RawBatch) else run[-1].offset + 1) <= offset


class Owner(Protocol):
    """What a partition needs of its store."""

    pending_bytes: int
    pending_bytes_max: int
    clock_ms: Callable[[], int]         # wall time as far as it is trusted: for stamps
    steady_ms: Callable[[], int]        # for ages, see routing/clock.py
    settled_for_ms: Callable[[], int]
    clock_s: Callable[[], float]
    open_segments: OpenSegments
    opener: Opener
    cold_reads: ColdReads
    is_closing: bool

    def reject(self, ticket: Ticket, partition: Partition, refusal: Refusal) -> None: ...
    def answer(self, ticket: Ticket) -> None: ...
    def read_aside(self, work: Callable[[], None]) -> None: ...
    def check(self, work: Callable[[], None]) -> None: ...
    def kick(self) -> None: ...
    def dirty(self, partition: Partition) -> None: ...
    def later(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...
    def note(self, partition: Partition) -> None: ...
    def noting(self, partition: Partition, *, durable: bool) -> Callable[[], None] | None: ...


class Commit(WriteTask):
    """One commit of this partition."""

    __slots__ = ("partition",)

    def __init__(self, partition: Partition, segment: Segment, end_offset: int) -> None:
        super().__init__(segment, end_offset)
        self.partition = partition


def _ignore(partition: Partition, run: Run) -> None:
    pass


def _ignore_settled(partition: Partition, offset: int, topics: set[str] | None) -> None:
    pass


def _ignore_refused(partition: Partition) -> None:
    pass


class Partition:
    def __init__(
        self, owner: Owner, settings: StreamSettings, index: int, segments: list[Segment], tail_budget: TailBudget,
        kept: list[Segment] | None = None,
    ) -> None:
        """segments: as recovered, in order, at least one; the last is active. kept: those of kept/, the same."""
        self.stream = settings.name
        self.index = index
        self.origin_name = settings.name                # of its stream, as other nodes know it
        self.is_internal = settings.name.startswith("$") and not settings.capture      # of the node itself
        self.settings = settings
        self.segments = segments
        self.high_watermark = segments[-1].next_offset  # one past the last committed record
        self.next_offset = self.high_watermark          # where the next append goes
        self.opened_at = self.high_watermark            # where it ended at the start of the node
        self.end_offset = self.high_watermark           # where readers stop: below it no transaction is open
        self.failed: Refusal | None = None              # set by the first failed write or sync: read-only for good
        self.held_from: int | None = None               # retention leaves what is from here on: another node wants it
        self.owed_from: int | None = None               # the same: a durable queue has not settled it
        self.held_up: Refusal | None = None             # set while nothing may be appended for the sake of such nodes
        self.kept_from = segments[0].base_offset        # where it begins, as retention knows it
        self.damage: list[Damage] = []                  # what recovery and readers found broken
        self.rewrites = 0                               # times that compaction has put cleaned segments in place
        self.on_committed: Callable[[Partition, Run], None] = _ignore
        self.on_settled: Callable[[Partition, int, set[str] | None], None] = _ignore_settled
        self.on_refused: Callable[[Partition], None] = _ignore_refused      # whatever was not committed
        self.watchers: dict[Callable[[], None], None] = {}      # called after each commit; they must not raise
        self._owner = owner
        self._group = OpenGroup(compact=settings.compact)
        self.shortage: Shortage[Commit] = Shortage(f"stream {settings.name} partition {index}", owner)
        self._roll_wanted = False
        self._reserved = max(read_reservation(segments[-1].fs, segments[-1].directory), 0)
        self._unsynced_bytes = 0
        self._has_synced = False                        # since the start: of what was there before nobody knows
        self.origins = OriginTable()                    # of batches that came from other nodes as they are
        self._origin_file = OriginFile(segments[-1].fs, segments[-1].directory)
        damaged_origins = self._origin_file.load(self.origins, self.next_offset)
        self.decoder = Decoder(self, lambda key: topic_of_key(self.settings, key), origins=self.origins)
        self.producers = ProducerTable()
        restore(self.producers, segments, owner.steady_ms(), self.origins)
        self._trim = Trim(segments[-1], owner)
        self.end_offset = self.producers.first_open(self.high_watermark)
        self.door = RawDoor(self, owner)
        self.opener = owner.opener
        self._held = Held()                             # what open transactions hold back
        self._cache = TailCache(tail_budget, self.high_watermark)
        self._reader = Reader(
            segments, self.decoder, owner.open_segments, self.producers, owner.opener, owner.cold_reads)
        self._fetcher = Fetcher(segments, self._reader, owner)
        self._upkeep = Upkeep(self, owner)
        self.kept = Kept(self, owner, kept or [], self.decoder)      # what queues are owed from before start_offset
        self.check, self.on_loop = owner.check, owner.on_loop       # for contents.py
        contents = Contents(self, segments, self.kept, self._reader, self._cache)
        self.is_leaving = self._cache.is_leaving        # the tail cache, where what stands at an offset is
        self.scan = contents.scan                       # what readers of events call; contents.py says what it does
        self.event = contents.event
        self.tally = contents.tally
        self.count = contents.count
        self.is_recent = contents.is_recent
        self.offset_for_time = contents.offset_for_time
        self.find_time = contents.find_time
        self.find_latest = contents.find_latest
        for segment in self.kept.segments:
            segment.on_damage = self.found_damage
        for segment in segments:
            self._adopt(segment)
        for segment in (*self.kept.segments, *segments):
            for damage in segment.damage:
                self.found_damage(damage)
        for what in damaged_origins:
            self.found_damage(Damage(str(self._origin_file.path), 0, 0, 0, 0, what))

    # ------------------------------------------------------------------------------------------------ state

    @property
    def trimmed_to(self) -> int:
        """What stands before it was deleted, whatever files still hold it."""
        return self._trim.offset

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""
        return max(self.segments[0].base_offset, self._trim.offset)

    @property
    def lowest_offset(self) -> int:
        """The first offset that a queue can read: what retention has taken, and queues still owe, stands there."""
        kept_from = self.kept.start_offset
        return self.start_offset if kept_from is None else max(min(kept_from, self.start_offset), self._trim.offset)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def segment_count(self) -> int:
        return len(self.segments)

    @property
    def is_synced(self) -> bool:
        """True when everything that is committed is on disk."""
        return not self._unsynced_bytes

    @property
    def has_open_group(self) -> bool:
        """True when begin_commit has something to do, now or later."""
        return bool(self._group) or self._roll_wanted or self.shortage.kept is not None

    def may_commit(self, now_s: float) -> bool:
        """False while a commit that failed for want of descriptors is not to be tried again yet."""
        return self.shortage.is_due(now_s)

    # ------------------------------------------------------------------------------------------------ append

    def append(self, events: list[Event], ticket: Ticket) -> None:
        """Queue events for the next commit; the ticket's share completes with it.

        Sets partition, offset and, where it is 0, timestamp_ms. Never blocks and never fails here: a refusal reaches
        the ticket with the next kick, and the events then have the offset -1.
        """
        if not events:
            return
        ticket.waiting += 1
        refusal = self.refusal()
        if refusal is not None:
            for event in events:
                event.partition = self
                event.offset = -1
            self._owner.reject(ticket, self, refusal)
            return
        offset = self.next_offset
        cost = EVENT_COST_BYTES * len(events)
        now_ms = 0
        for event in events:
            event.partition = self
            event.offset = offset
            offset += 1
            cost += len(event.payload)
            if event.timestamp_ms == 0:
                now_ms = now_ms or self._owner.clock_ms()
                event.timestamp_ms = now_ms
        self._group.add(events)
        self._queued(offset, cost, ticket)

    def join(self, ticket: Ticket) -> None:
        """The ticket is not done before everything that was appended until now is committed, or refused."""
        if self.next_offset > self.high_watermark:
            ticket.waiting += 1
            self._group.owe(self.next_offset, 0, ticket)

    def append_raw(self, batch: bytes, ticket: Ticket, terms: Terms | None = None, ask: Ask | None = None,
                   came: Came | None = None) -> Part:
        """Queue one RecordBatch of a Kafka producer as it is; only base offset and leader epoch are set.

        Returns its part of the ticket, which is complete when the ticket is: what becomes of the batch stands there,
        also when a later commit fails. A small batch has its offset at once, a large one when a thread has checked it.
        ask: see door.py; None takes no headers of the node's own, and all else. came: it was another node's before.
        """
        return self.door.submit(batch, terms or _TERMS, ask or self._ask_nobody, ticket, came)

    def _ask_nobody(self, checked: Checked) -> Counter[str] | Refusal:
        if checked.named or checked.foreign:
            return Refusal(Reason.PAYLOAD_INVALID, "record batch: headers that begin with meshgate- are the node's",
                           fault=Fault.RECORD)
        return checked.topics or Counter({topic_of_key(self.settings, None): checked.records})

    def append_marker(self, producer_id: int, epoch: int, kind: int, ticket: Ticket) -> None:
        """Queue the end of a transaction: kind of markers.py. The ticket's share completes with it, as in append()."""
        ticket.waiting += 1
        part = Part(self, -1, 1)
        ticket.parts = [*ticket.parts, part]
        part.refusal = self.failed or self.held_up
        if part.refusal is not None:
            self._owner.answer(ticket)
            return
        batch = build_marker(producer_id, epoch, kind, self._owner.clock_ms())
        part.base_offset = self.next_offset
        self.append_checked(
            RawBatch(batch, check_header(batch), self.next_offset, Counter(), self.decoder, kind), ticket)

    def append_checked(self, batch: RawBatch, ticket: Ticket) -> None:
        """Queue a batch that begins at next_offset. The ticket's share was counted before. For the door."""
        self._group.add_raw(batch)
        self._queued(batch.next_offset, len(batch.data), ticket)

    def owe(self, end_offset: int, ticket: Ticket) -> None:
        """The ticket's share is done, or refused, together with what waits below end_offset. For the door."""
        self._group.owe(end_offset, 0, ticket)

    def refusal(self) -> Refusal | None:
        """Why nothing can be appended now, None when it can."""
        if self.failed is not None or self.held_up is not None:
            return self.failed or self.held_up
        full = self.shortage.refusal() if self.shortage.full is not None else None
        crowded = self._owner.pending_bytes > self._owner.pending_bytes_max
        return full or (_OVERLOADED if crowded and not self.is_internal else None)     # the node's own state always may

    def _queued(self, end_offset: int, cost: int, ticket: Ticket) -> None:
        self.next_offset = end_offset
        self._group.owe(end_offset, cost, ticket)
        self._owner.pending_bytes += cost
        self._owner.dirty(self)

    # ------------------------------------------------------------------------------------------------ commit

    def begin_commit(self) -> Commit:
        """Encode the open group, or as much of it as one commit takes. end_commit must follow before the next."""
        segment = self.segments[-1]
        again = self.shortage.take()
        if again is not None:
            return again
        task = Commit(self, segment, self.high_watermark)
        size = 0
        while self._group and size < GROUP_BYTES_MAX:
            try:
                data, content = self._group.next_batch(first_in_group=size == 0)
                header = check_header(data)
                assert header.base_offset == task.end_offset, "offsets must count up without gaps"
            except Exception:       # an adapter let an event through whose fields are not what their types say
                log.exception("stream %s partition %d: cannot encode an event", self.stream, self.index)
                task.failure = Refusal(Reason.PAYLOAD_INVALID, "an event that was published together cannot be stored")
                return task
            task.batches.append((header, content))
            task.pieces.append(data)
            task.end_offset = header.next_offset
            size += len(data)
        self._note_origins(task)
        if segment.size and (
            self._roll_wanted
            or segment.size + size > self.settings.segment_bytes
            or task.end_offset - segment.base_offset > RELATIVE_OFFSET_MAX
        ):
            task.roll_at = self.high_watermark
        self._roll_wanted = False
        task.alone = self._has_synced and not self._unsynced_bytes
        if self.settings.durability is Durability.FSYNC:
            task.sync = True
        else:
            task.sync = self._unsynced_bytes >= CHECKPOINT_BYTES        # a checkpoint stands for synced bytes
            if task.end_offset > self._reserved:
                task.reserve = task.end_offset + RESERVED
        return task

    def _note_origins(self, task: Commit) -> None:
        """Where batches of other nodes come from: a line for those that follow each other."""
        table = OriginTable()
        for header, content in task.batches:
            if isinstance(content, RawBatch) and content.came is not None:
                table.add(content.came.span(header.base_offset, header.next_offset))
        if table:
            task.origin_file, task.lines = self._origin_file, b"".join(map(encode_line, table.spans))
            if self._origin_file.wants_shortening(self.origins):
                task.known = self.origins.spans[:]

    def end_commit(self, task: Commit) -> Callable[[], None]:
        """Take a finished task back: move the end, or refuse what waited. Returns the notifications, to be run next."""
        if task.rolled is not None:
            self._take_new_segment(task.rolled)
            task.rolled = None
        if task.shortage is not None and task.failure is None:
            return self._try_again(task, task.shortage)
        self.shortage.over()
        if task.failure is not None:
            return self._refuse_waiting(task.failure)
        runs = self._take_batches(task)
        self._origin_file.size += len(task.lines)
        size = sum(map(len, task.pieces))
        self._reserved = max(self._reserved, task.reserve or 0)
        self._unsynced_bytes = 0 if task.sync else self._unsynced_bytes + size
        if task.sync:
            self._has_synced = True
            self._upkeep.synced()
        done, cost = self._group.paid(task.end_offset)
        self._owner.pending_bytes -= cost
        held_from = self.end_offset                     # of what was held back by open transactions until now
        held = held_from < task.start_offset
        self.end_offset = end_offset = self.producers.first_open(self.high_watermark)

        back = runs if held else [run for run in runs if not is_below(run, end_offset)]
        settled, topics = held and end_offset > held_from, self._held.topics
        if end_offset == self.high_watermark:
            self._held.clear()
        else:
            self._held.hold(back)

        def notify() -> None:
            if settled:
                self.on_settled(self, held_from, topics)
            for run in () if held else runs:
                if is_below(run, end_offset) and not self._is_hidden(run):
                    self.on_committed(self, run)
            for ticket in done:
                ticket.part_done()
            for watcher in list(self.watchers):
                watcher()

        return notify

    def _take_batches(self, task: Commit) -> list[Run]:
        """The batches of a task are durable. Returns them as runs for who wants their events."""
        segment = self.segments[-1]
        steady_ms = self._owner.steady_ms() if task.batches else 0
        if task.batches:
            segment.age_from(steady_ms, steady_ms)
        runs: list[Run] = []
        raw = False
        for header, content in task.batches:
            segment.note(segment.size, header, topics_of(content))
            last = runs[-1] if runs else None
            if isinstance(content, RawBatch):
                raw = True
                runs.append(content)
                if content.came is not None:
                    self.origins.add(content.came.span(header.base_offset, header.next_offset))
                elif header.producer_id >= 0:
                    self.producers.committed(header, steady_ms, content.kind)
                    segment.had_producers = True
            elif isinstance(last, list):
                runs[-1] = last + content
            else:
                runs.append(content)
        self.high_watermark = task.end_offset
        if raw or self.producers.open:                  # what was not made into events is not kept as such
            self._cache.skip(task.end_offset)
        elif runs and isinstance(runs[0], list):
            self._cache.add(runs[0], sum(map(len, task.pieces)), task.end_offset)
        else:
            self._cache.add([], 0, task.end_offset)
        return runs

    def _is_hidden(self, run: Run) -> bool:
        return isinstance(run, RawBatch) and self.producers.hides(run.header.attributes, run.header.producer_id,
                                                                  run.base_offset)

    def _try_again(self, task: Commit, shortage: str) -> Callable[[], None]:
        task.shortage = None
        refusal = self.shortage.keep(task, shortage)
        return (lambda: None) if refusal is None else self._refuse_waiting(refusal)

    def _take_new_segment(self, new: Segment) -> None:
        self._upkeep.rolled(self.segments[-1])
        self._adopt(new)
        new.had_producers = bool(self.producers)
        self.segments.append(new)
        self._owner.note(self)

    def _refuse_waiting(self, refusal: Refusal) -> Callable[[], None]:
        """Refuse everything that is not committed: its offsets are free again."""
        if refusal.reason is Reason.STORAGE_FULL:
            self.shortage.filled(refusal)
        elif refusal.reason is Reason.STORAGE_FAILED:
            self.failed = refusal
        refused, cost = self._group.clear()
        self._owner.pending_bytes -= cost
        self.shortage.kept = None
        self.next_offset = self.high_watermark
        self.producers.refused()
        self.on_refused(self)

        def notify() -> None:
            for ticket in refused:
                ticket.part_failed(self, refusal)

        return notify

    # ------------------------------------------------------------------------------------------------ read

    def forget(self) -> Iterator[None]:
        """What is remembered only to be quick. Work in pieces."""
        yield from self._cache.forget()
        yield from self._group.forget()

    def newest(self) -> dict[bytes, bytes]:
        """The newest value of each key that has one, of a table. All at once: at a start."""
        return self._reader.newest()

    def be_patient(self, patient: bool) -> None:
        """Whether an unreadable page raises StorageError for a while, for consumers to try again, or is damage at once.

        While a node starts nobody would try again: it is to start with what can be read.
        """
        self._reader.patient = self.kept.reader.patient = patient
        for segment in (*self.kept.segments, *self.segments):
            segment.pages.patient = patient

    def read(self, offset: int, max_bytes: int) -> list[bytes]:
        """Whole RecordBatches from the one that holds offset (or the next there is): at least one, if there is one."""
        return self._reader.read(max(offset, self.start_offset), max_bytes)

    def fetch(self, offset: int, max_bytes: int, *, committed: bool = False, done: Answer | None = None,
              ) -> Fetched | None:
        """Whole stored batches from the one that holds offset, at least one if there is one. See fetch.py.

        committed: only what is below every open transaction (Kafka's read_committed); else up to high_watermark. Those
        of aborted transactions are in it: see producers.aborted_between(offset, next_offset).
        None: the disk is asked, and done is called later on the loop, with the batches or a StorageError. Without done
        the loop waits. Raises OutOfRange, and StorageError when the file cannot be read now.
        """
        end_offset = self.end_offset if committed else self.high_watermark
        if not self.start_offset <= offset <= self.high_watermark:
            raise OutOfRange(f"{self.stream}/{self.index} holds {self.start_offset} to {self.high_watermark}, "
                             f"not {offset}")
        if offset >= end_offset:
            return Fetched(b"", offset)
        return self._fetcher.fetch(offset, end_offset, max_bytes, done)

    def fresh_decoder(self) -> Decoder:
        """A decoder of this partition's records, for use on one thread."""
        return Decoder(self, lambda key: topic_of_key(self.settings, key))

    def _adopt(self, segment: Segment) -> None:
        segment.on_damage = self.found_damage
        segment.on_unusable = self._upkeep.remake

    def saving_producers(self) -> Callable[[], None] | None:
        """A function for the keeper that saves the list of producers as of now; None: there is none."""
        active = self.segments[-1]
        return self.producers.saving(active.fs, active.directory, self.high_watermark)

    def found_damage(self, damage: Damage) -> None:
        log.error("stream %s partition %d: %s", self.stream, self.index, damage)
        self.damage.append(damage)

    # ------------------------------------------------------------------------------------------------ upkeep

    def noting(self) -> Callable[[], None] | None:
        """A function for the keeper that notes durably where the partition begins and ends. For upkeep.py."""
        return self._owner.noting(self, durable=True)

    def maintain(self, steady_ms: int) -> None:
        """Retention, compaction, rolling by age."""
        if self._upkeep.run(steady_ms):
            self._roll_wanted = True
            self._owner.dirty(self)

    def trim(self, offset: int) -> Ticket:
        """Delete what stands before offset, for every reader. The ticket is done when that is durable.

        Refused as PAYLOAD_INVALID when offset is behind what may be read; one before the start changes nothing.
        """
        ticket = Ticket(())
        if not 0 <= offset <= self.end_offset:
            ticket.refusals[0] = Refusal(Reason.PAYLOAD_INVALID, f"{self.stream}/{self.index} can be read up to "
                                         f"{self.end_offset}, not to {offset}")
        if offset <= self.start_offset or ticket.refusals:
            ticket.part_done()
        else:
            self._trim.to(offset, ticket)
        return ticket

    def remove_oldest(self, count: int) -> None:
        """Remove the oldest segments and their files. For kept.py."""
        self._upkeep.remove_oldest(count)

    def lift(self, owed: Owed) -> None:
        """This is what queues owe below kept.asked_below: what stands there may go."""
        if not self._upkeep.is_busy and self.failed is None:
            self.kept.lift(owed)

    def drop_segments(self, gone: list[Segment]) -> None:
        """Take the oldest segments off the list; their files are the caller's business."""
        assert self.segments[:len(gone)] == gone
        del self.segments[:len(gone)]
        self.kept_from = self.segments[0].base_offset
        self.producers.forget_before(self.kept_from)
        self.origins.forget_before(self.lowest_offset)
        for segment in gone:
            self._reader.forget(segment)
        self._cache.drop_before(self.start_offset, self.high_watermark)

    def replace_segments(self, bases: list[int], new: Segment) -> None:
        """Put a cleaned segment in the place of those with these base offsets."""
        new.had_producers = bool(self.producers)
        first = next(index for index, segment in enumerate(self.segments) if segment.base_offset == bases[0])
        old = self.segments[first:first + len(bases)]
        assert [segment.base_offset for segment in old] == bases
        self.segments[first:first + len(bases)] = [new]
        self.rewrites += 1
        self._adopt(new)
        for segment in old:
            self._reader.forget(segment)
        self._cache.drop_before(new.next_offset, self.high_watermark)

    def abandon(self) -> None:
        """The stream is deleted: refuse what waits and all that comes."""
        refusal = self.failed = Refusal(Reason.NOT_FOUND, f"the stream {self.stream} was deleted")
        self.on_committed, self.on_settled = _ignore, _ignore_settled
        self._refuse_waiting(refusal)()
        self._roll_wanted = False
        for watcher in list(self.watchers):
            watcher()

    def let_go(self) -> None:
        """Close the files as they are."""
        self.kept.let_go()
        for segment in self.segments:
            self._owner.open_segments.forget(segment)

    def close(self) -> None:
        """Cut the reserved space off the active segment, sync it and save its checkpoint. Nothing may be under way."""
        active = self.segments[-1]
        if self.failed is None:
            try:
                active.file().truncate(active.size)
                active.file().datasync()
                if not active.damage:
                    save = self.saving_producers()
                    if save is not None:
                        save()
                    active.sidecars()()
                drop_reservation(active.fs, active.directory)
            except OSError as error:
                log.error("%s: cannot be closed cleanly: %s; it will be read at the next start", active.path(), error)
        for segment in (*self.kept.segments, *self.segments):
            segment.close()
