"""Upkeep of one partition: checkpoints, rolling by age, retention and compaction.

Called by partition.py after commits and by store.py every second, on the loop. Decisions are made here; files are
changed on the keeper thread, one task after the other, so that a segment's sidecars are written before the segment is
deleted or replaced. Retention waits while a compaction is under way: both change the list of segments.

    loop:    decide, freeze sources ─┐              ┌─ swap segments in the list ─┐        ┌─ let go of the file
    keeper:                          └─► clean ─────┘   (readers use the open file) └─► rename, delete, sidecars
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from routing.errors import StorageError
from routing.log.compaction import (
    SWAP,
    Cleaned,
    clean,
    keep_tombstones_ms,
    put_in_place,
    remove_segment,
    wants_cleaning,
)
from routing.log.producing.producers import ProducerTable
from routing.log.recovery.recovery import any_batch, read_segment
from routing.log.retention import expired_count, should_roll
from routing.log.segments.index import IndexBuilder
from routing.log.segments.rewriting import CleaningFailed, Source
from routing.log.segments.segment import Segment
from routing.log.segments.sidecars import LOG

if TYPE_CHECKING:
    from routing.errors import Refusal
    from routing.log.kept.kept import Kept as KeptEvents
    from routing.log.records.decode import Decoder
    from routing.settings import StreamSettings

log = logging.getLogger(__name__)

CHECKPOINT_BYTES = 16 * 1024 * 1024     # recovery reads at most about so much of a partition
CHECKPOINT_MS = 600_000                 # and the age of what it holds is known but for so much
CLEANING_RETRY_MS = 60_000              # after a failure, such as a full disk


class Owner(Protocol):
    """What upkeep needs of the store: its clocks, and where work is done, in order."""

    clock_ms: Callable[[], int]
    steady_ms: Callable[[], int]
    settled_for_ms: Callable[[], int]

    def later(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...


class Kept(Protocol):
    """The partition that is kept up."""

    stream: str
    index: int
    settings: StreamSettings
    segments: list[Segment]
    failed: Refusal | None
    held_from: int | None
    producers: ProducerTable
    end_offset: int
    owed_from: int | None
    kept: KeptEvents

    @property
    def trimmed_to(self) -> int: ...
    @property
    def is_synced(self) -> bool: ...

    def fresh_decoder(self) -> Decoder: ...
    def drop_segments(self, gone: list[Segment]) -> None: ...
    def replace_segments(self, bases: list[int], new: Segment) -> None: ...
    def noting(self) -> Callable[[], None] | None: ...
    def saving_producers(self) -> Callable[[], None] | None: ...


class Upkeep:
    __slots__ = (
        "_checkpoint_due_ms", "_checkpointed", "_clean_until", "_cleaning", "_not_before_ms", "_owner", "_partition",
        "_unsettled",
    )

    def __init__(self, partition: Kept, owner: Owner) -> None:
        self._partition = partition
        self._owner = owner
        self._checkpointed = partition.segments[-1].size
        self._checkpoint_due_ms = 0
        self._clean_until = 0
        self._cleaning = False
        self._not_before_ms = 0
        self._unsettled: Callable[[], None] | None = None       # the end of a compaction that could not be done

    def rolled(self, sealed: Segment) -> None:
        """A segment was sealed: save its sidecars."""
        self._checkpointed = 0
        self._save_producers()
        self._owner.later(sealed.seal())

    def synced(self) -> None:
        """Everything in the active segment is on disk: save a checkpoint if the last one is long ago."""
        active = self._partition.segments[-1]
        if active.size - self._checkpointed >= CHECKPOINT_BYTES:
            self._checkpoint(active)

    def _checkpoint(self, active: Segment) -> None:
        if not active.damage:
            self._checkpointed = active.size
            self._save_producers()
            self._owner.later(active.sidecars())

    def _save_producers(self) -> None:
        """Before the mark that vouches for it."""
        save = self._partition.saving_producers()
        if save is not None:
            self._owner.later(save)

    def remake(self, segment: Segment) -> None:
        """The summary of a sealed segment cannot be used: make it again. Meanwhile readers read all of it."""
        if segment.damage:
            return                      # a damaged one has none
        decoder, size, next_offset = self._partition.fresh_decoder(), segment.size, segment.next_offset

        def work() -> None:
            copy = Segment(segment.fs, segment.directory, segment.base_offset)
            copy.builder = IndexBuilder(segment.base_offset)
            copy.age_from(segment.opened_ms, segment.appended_ms)
            try:
                end = read_segment(copy, decoder, 0, size, offset_max=next_offset, resume_at=any_batch)
                if end == size and not copy.damage and copy.identity == segment.identity:
                    copy.sidecars()()
                    self._owner.on_loop(segment.drop_summary)
            except (OSError, StorageError) as error:
                log.warning("%s: the summary cannot be made again now: %s", segment.path(), error)
            finally:
                copy.close()

        self._owner.later(work)

    def run(self, steady_ms: int) -> bool:
        """Do what is due. True when the active segment should be rolled."""
        partition = self._partition
        if partition.failed is not None:
            return False
        partition.producers.expire(steady_ms)
        if steady_ms >= self._checkpoint_due_ms:
            self._checkpoint_due_ms = steady_ms + CHECKPOINT_MS
            if partition.is_synced and partition.segments[-1].size != self._checkpointed:
                self._checkpoint(partition.segments[-1])
        if self._unsettled is not None and steady_ms >= self._not_before_ms:
            settle, self._unsettled = self._unsettled, None
            self._owner.later(settle)
        if not self._cleaning and not partition.kept.is_busy:
            self._retain(steady_ms)
            partition.kept.settled(partition.owed_from)
            if partition.settings.compact and steady_ms >= self._not_before_ms:
                self._compact(steady_ms)
        return should_roll(partition.segments[-1], partition.settings, steady_ms)

    # ------------------------------------------------------------------------------------------------ retention

    def _retain(self, steady_ms: int) -> None:
        partition = self._partition
        count = expired_count(partition.segments, partition.settings, steady_ms, partition.trimmed_to)
        count = self._free_of(count, partition.held_from)
        free = self._free_of(count, partition.owed_from)
        if free < count:
            partition.kept.ask(partition.segments[free:count])
            count = free
        if count:
            self.remove_oldest(count)

    def _free_of(self, count: int, floor: int | None) -> int:
        """How many of the oldest segments end at or before a place."""
        while count and floor is not None and self._partition.segments[count - 1].next_offset > floor:
            count -= 1
        return count

    @property
    def is_busy(self) -> bool:
        """The list of segments must stay as it is."""
        return self._cleaning

    def remove_oldest(self, count: int) -> None:
        """Of the log: the list at once, the files as soon as it is noted that they are meant to be missing."""
        partition = self._partition
        gone = partition.segments[:count]
        partition.drop_segments(gone)
        log.info(
            "stream %s partition %d: retention removes offsets %d to %d, %d bytes",
            partition.stream, partition.index, gone[0].base_offset, gone[-1].next_offset - 1,
            sum(segment.size for segment in gone),
        )

        note = partition.noting()

        def delete() -> None:
            if note is not None:
                note()                  # before a file goes: what is missing is then known to be meant
            for segment in gone:
                try:
                    remove_segment(segment.fs, segment.directory, segment.base_offset)
                except OSError as error:
                    log.warning("%s: cannot be deleted: %s; it comes back at the next start", segment.path(), error)
                    return              # and those after it, too, so that there is no hole

        self._owner.later(delete)

    # ------------------------------------------------------------------------------------------------ compaction

    def _compact(self, steady_ms: int) -> None:
        partition = self._partition
        settings = partition.settings
        dirty = wants_cleaning(partition.segments, self._clean_until, partition.end_offset,
                               steady_ms - settings.compact_after_ms if settings.compact_after_ms else None)
        if not dirty:
            return
        self._cleaning = True
        sources = [
            Source(segment.base_offset, segment.next_offset, segment.size, segment.opened_ms, segment.appended_ms)
            for segment in dirty
        ]
        # Stamps can be compared only as far back as the clock has not been set since.
        keep_ms = keep_tombstones_ms(settings.tombstone_ms)
        settled = self._owner.settled_for_ms() >= keep_ms
        tombstones_before_ms = self._owner.clock_ms() - keep_ms if settled else 0
        fs, directory, decoder = dirty[0].fs, dirty[0].directory, partition.fresh_decoder()
        segment_bytes = partition.settings.segment_bytes
        aborted = partition.producers.aborted_in(sources[0].base_offset, sources[-1].next_offset)

        def work() -> None:
            try:
                cleaned = clean(fs, directory, sources, decoder, segment_bytes, tombstones_before_ms, aborted)
            except (OSError, CleaningFailed) as error:
                log.error("stream %s partition %d: compaction failed: %s", partition.stream, partition.index, error)
                self._owner.on_loop(lambda: self._cleaning_failed(steady_ms))
                return
            self._owner.on_loop(lambda: self._swap(cleaned))

        self._owner.later(work)

    def _cleaning_failed(self, steady_ms: int) -> None:
        self._cleaning = False
        self._not_before_ms = steady_ms + CLEANING_RETRY_MS

    def _swap(self, cleaned: list[Cleaned]) -> None:
        """Readers change over. The new segments keep file and index in memory until the names are in place."""
        if self._partition.failed is not None:          # or deleted: nothing of it is touched any more
            for each in cleaned:
                each.segment.close()
            return
        before = sum(source.size for each in cleaned for source in each.sources)
        for each in cleaned:
            each.segment.suffix = SWAP
            self._partition.replace_segments([source.base_offset for source in each.sources], each.segment)
        self._clean_until = cleaned[-1].segment.next_offset
        log.info(
            "stream %s partition %d: compaction made %d bytes of %d", self._partition.stream, self._partition.index,
            sum(each.segment.size for each in cleaned), before,
        )
        sidecars = [each.segment.sidecars() for each in cleaned]

        def settle() -> None:
            for each, save in zip(cleaned, sidecars):
                segment = each.segment
                try:
                    put_in_place(
                        segment.fs, segment.directory, segment.base_offset,
                        [source.base_offset for source in each.sources],
                    )
                    save()
                except OSError as error:
                    # The list in memory stays right, and it is tried again; a start would finish from the .swap file.
                    log.error("%s: compaction cannot be finished now: %s", segment.path(), error)
                    self._owner.on_loop(lambda: self._settle_later(settle))
                    return
            self._owner.on_loop(lambda: self._settled(cleaned))

        self._owner.later(settle)

    def _settle_later(self, settle: Callable[[], None]) -> None:
        self._unsettled = settle
        self._not_before_ms = self._owner.steady_ms() + CLEANING_RETRY_MS

    def _settled(self, cleaned: list[Cleaned]) -> None:
        for each in cleaned:
            each.segment.suffix = LOG
            each.segment.release()
        self._cleaning = False
