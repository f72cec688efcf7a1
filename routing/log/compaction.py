"""Key compaction: rewrite sealed segments so that only the last record of each key stays.

Decided by partition.py on the loop, run by `clean` on the keeper thread, which touches nothing of the loop: it gets
the paths and bounds of the sources and gives back finished files.

A record keeps its offset and its bytes. What is removed leaves no hole in the chain of batches (batch.py): the batch
before it declares a later last offset, as Kafka's cleaner may; where there is none before it, an empty batch stands.

    <base>.log.cleaned   being written; worthless after a crash
    <base>.log.swap      complete and synced: from here on it counts, and replaces every segment in its range
    <base>.log           after the replaced segments are gone

A tombstone (null value) stays for TOMBSTONE_KEEP_MS, so that readers who are behind learn of the deletion.
"""
from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from routing.event import Event
from routing.log.crash import crash_point
from routing.log.fs import FileSystem
from routing.log.producing.producers import ProducerTable
from routing.log.records.batch import (
    CODEC_MASK,
    CONTROL_MASK,
    HEADER_BYTES,
    BatchHeader,
    batch_at,
    build_batch,
    read_varint,
)
from routing.log.records.decode import Decoder, plain_batch
from routing.log.records.verdicts import Verdicts
from routing.log.segments.damage import Damage
from routing.log.segments.index import RELATIVE_OFFSET_MAX, IndexBuilder
from routing.log.segments.segment import Found, Segment, segment_name
from routing.log.segments.sidecars import LOG, SUFFIXES

log = logging.getLogger(__name__)

CLEANED, SWAP = ".log.cleaned", ".log.swap"

DIRTY_SHARE_MIN = 0.5                       # Kafka's min.cleanable.dirty.ratio
SOURCES_MAX = 64                            # segments of one run
KEYS_MAX = 2_000_000                        # keys of one run held in memory; the rest waits for the next run
# Kafka's delete.retention.ms, and a tenth more: stamps may run faster by so much (routing/clock.py, RATE).
TOMBSTONE_KEEP_MS = 24 * 3600 * 1000 * 11 // 10
_WRITE_BYTES = 1024 * 1024


class Source(msgspec.Struct, frozen=True):
    """A sealed segment as the keeper thread sees it."""

    base_offset: int
    next_offset: int
    size: int
    opened_ms: int
    appended_ms: int


class Cleaned(msgspec.Struct):
    """A finished segment and what it replaces."""

    segment: Segment
    sources: list[Source]


class CleaningFailed(Exception):
    """A source could not be read; the text says where."""


def wants_cleaning(segments: Sequence[Segment], clean_until: int, end_offset: int) -> list[Segment]:
    """The sealed segments that one run should clean; empty when it is not worth it yet.

    clean_until: the offset up to which the last run has cleaned. end_offset: behind it a transaction is open.
    """
    sealed = [segment for segment in segments[:-1] if segment.next_offset <= end_offset][:SOURCES_MAX]
    if any(segment.damage for segment in sealed):
        return []                           # what is broken stays as it is, and so does what surrounds it
    total = sum(segment.size for segment in sealed)
    dirty = sum(segment.size for segment in sealed if segment.next_offset > clean_until)
    return sealed if dirty and dirty >= DIRTY_SHARE_MIN * total else []


def clean(
    fs: FileSystem, directory: Path, sources: list[Source], decoder: Decoder, segment_bytes: int,
    tombstones_before_ms: int, aborted: ProducerTable | None = None,
) -> list[Cleaned]:
    """Write the cleaned segments as .swap files; tombstones that are older go, and what aborted transactions left.

    Raises OSError and CleaningFailed, and then leaves no file behind.
    """
    aborted = aborted or ProducerTable()
    newest, covered = _newest_offsets(fs, directory, sources, aborted)
    done: list[Cleaned] = []
    try:
        output: _Output | None = None
        for source in sources[:covered]:
            if output is None or not output.takes(source, done[-1].sources, segment_bytes):
                if output is not None:
                    output.finish(done[-1].sources[-1].next_offset)
                output = _Output(fs, directory, source.base_offset, decoder)
                done.append(Cleaned(output.segment, []))
            done[-1].sources.append(source)
            output.segment.age_from(source.opened_ms, source.appended_ms)
            for found in _batches(fs, directory, source):
                if found.header.attributes & CONTROL_MASK or not _is_hidden(aborted, found):
                    output.add(found, newest, tombstones_before_ms)
        if output is not None:
            output.finish(done[-1].sources[-1].next_offset)
        crash_point("in_compaction")
        for cleaned in done:        # each in turn: a tombstone must not go before the value that it deletes
            fs.rename(cleaned.segment.path(CLEANED), cleaned.segment.path(SWAP))
            fs.sync_directory(directory)
    except (OSError, CleaningFailed):
        for cleaned in done:
            cleaned.segment.close()
            with contextlib.suppress(OSError):
                fs.remove(cleaned.segment.path(CLEANED))
                fs.remove(cleaned.segment.path(SWAP))
        raise
    crash_point("in_compaction")
    return done


def put_in_place(fs: FileSystem, directory: Path, base_offset: int, replaced: Sequence[int]) -> None:
    """Remove the replaced segments and give the .swap file its name. replaced: base offsets, base_offset or not."""
    for base in replaced:
        if base != base_offset:
            remove_segment(fs, directory, base)
            crash_point("in_compaction")
    for suffix in SUFFIXES:
        if suffix != LOG:
            fs.remove(directory / (segment_name(base_offset) + suffix))
    swap = directory / (segment_name(base_offset) + SWAP)
    if fs.exists(swap):                     # else an earlier try got so far
        fs.rename(swap, directory / (segment_name(base_offset) + LOG))
    fs.sync_directory(directory)
    crash_point("in_compaction")


def remove_segment(fs: FileSystem, directory: Path, base_offset: int) -> None:
    """Delete a segment's files, the log first: sidecars without a log are swept at the next start."""
    for suffix in SUFFIXES:
        fs.remove(directory / (segment_name(base_offset) + suffix))


# ------------------------------------------------------------------------------------------------------- helpers

def _batches(fs: FileSystem, directory: Path, source: Source) -> Iterator[Found]:
    """The batches of a source. Raises CleaningFailed at damage: nothing may be cleaned away around it."""
    segment = Segment(fs, directory, source.base_offset)
    segment.size, segment.next_offset = source.size, source.next_offset
    segment.builder = None

    def stop(damage: Damage) -> None:
        raise CleaningFailed(str(damage))

    segment.on_damage = stop
    try:
        yield from segment.batches(0, source.base_offset)
    finally:
        segment.close()


def _is_hidden(aborted: ProducerTable, found: Found) -> bool:
    header = found.header
    return aborted.hides(header.attributes, header.producer_id, header.base_offset)


def _newest_offsets(fs: FileSystem, directory: Path, sources: list[Source],
                    aborted: ProducerTable) -> tuple[dict[bytes, int], int]:
    """Key -> offset of its last record in the sources, and how many sources that covers."""
    newest: dict[bytes, int] = {}
    for index, source in enumerate(sources):
        if index and len(newest) > KEYS_MAX:
            return newest, index
        for found in _batches(fs, directory, source):
            if _is_hidden(aborted, found):              # control records among them
                continue
            plain = plain_batch(found.raw(), found.header)
            newest.update((span[0], span[1]) for span in spans(plain, found.header) if span[0] is not None)
    return newest, len(sources)


def spans(plain: bytes, header: BatchHeader) -> Iterator[tuple[bytes | None, int, int, bool, int, int]]:
    """Of each record: key, offset, timestamp, is the value null, and where its bytes begin and end."""
    position = HEADER_BYTES
    for _ in range(header.record_count):
        start = position
        size, position = read_varint(plain, position)
        end = position + size
        timestamp_delta, position = read_varint(plain, position + 1)
        offset_delta, position = read_varint(plain, position)
        length, position = read_varint(plain, position)
        key = None
        if length >= 0:
            key = plain[position:position + length]
            position += length
        value_length, _ = read_varint(plain, position)
        timestamp = header.base_timestamp + timestamp_delta
        yield key, header.base_offset + offset_delta, timestamp, value_length < 0, start, end
        position = end


class _Output:
    """A .cleaned file that grows batch by batch. The last batch is held back until it is known how far it reaches."""

    def __init__(self, fs: FileSystem, directory: Path, base_offset: int, decoder: Decoder) -> None:
        self.segment = Segment(fs, directory, base_offset, suffix=CLEANED)
        self.segment.builder = IndexBuilder(base_offset)
        self._file = fs.open(self.segment.path(), create=True)
        self._file.truncate(0)
        self.segment.adopt_file(self._file)
        self._decoder = decoder
        self._held: tuple[BatchHeader, bytes, int, int] | None = None       # header, records, count, max timestamp
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._written = 0

    def takes(self, source: Source, so_far: list[Source], segment_bytes: int) -> bool:
        """True when the next source surely fits in too."""
        held = 0 if self._held is None else HEADER_BYTES + len(self._held[1])
        return (
            self.segment.size + held + source.size <= segment_bytes
            and source.next_offset - so_far[0].base_offset <= RELATIVE_OFFSET_MAX
            and source.base_offset == so_far[-1].next_offset
        )

    def add(self, found: Found, newest: dict[bytes, int], tombstones_before_ms: int) -> None:
        """Take over what is to stay of a batch."""
        header = found.header
        plain = plain_batch(found.raw(), header)
        if header.attributes & CONTROL_MASK:
            self._hold(header, plain[HEADER_BYTES:], header.record_count, header.max_timestamp)
            return
        kept: list[bytes] = []
        max_timestamp = -1
        for key, offset, timestamp, is_null, start, end in spans(plain, header):
            if key is not None and newest[key] != offset:
                continue
            if key is not None and is_null and timestamp < tombstones_before_ms:
                continue
            kept.append(plain[start:end])
            max_timestamp = max(max_timestamp, timestamp)
        if kept:
            self._hold(header, b"".join(kept), len(kept), max_timestamp)

    def finish(self, next_offset: int) -> None:
        """Write the rest and sync."""
        if self._held is None:
            self._emit_empty(self.segment.next_offset, next_offset)
        else:
            self._emit(next_offset)
        self._flush()
        self._file.datasync()

    def _hold(self, header: BatchHeader, records: bytes, count: int, max_timestamp: int) -> None:
        if self._held is not None:
            self._emit(header.base_offset)
        elif header.base_offset > self.segment.next_offset:
            self._emit_empty(self.segment.next_offset, header.base_offset)
        self._held = (header, records, count, max_timestamp)

    def _emit(self, next_offset: int) -> None:
        """Write the held batch; it reaches up to next_offset."""
        assert self._held is not None
        header, records, count, max_timestamp = self._held
        self._write(build_batch(
            header.base_offset, next_offset - 1 - header.base_offset, header.base_timestamp, max_timestamp, count,
            records, first_in_group=True, attributes=header.attributes & ~CODEC_MASK,
            producer=(header.producer_id, header.producer_epoch, header.base_sequence),
        ))

    def _emit_empty(self, base_offset: int, next_offset: int) -> None:
        self._write(empty_batch(base_offset, next_offset))

    def _write(self, batch: bytes) -> None:
        header = batch_at(batch, 0)
        assert header is not None
        events: list[Event] = []
        if not header.attributes & CONTROL_MASK:
            self._decoder.events(batch, 0, header, 0, Verdicts(lambda topic: True), {}, events, 1 << 62)
        self.segment.committed(header, [event.topic for event in events])
        self._buffer.append(batch)
        self._buffered += len(batch)
        if self._buffered >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        if data and self._file.pwrite(data, self._written) != len(data):
            raise OSError(errno.ENOSPC, "short write while cleaning")
        self._written += len(data)
        self._buffer.clear()
        self._buffered = 0


def empty_batch(base_offset: int, next_offset: int) -> bytes:
    """A batch without records that stands for the offsets from base_offset up to next_offset."""
    return build_batch(base_offset, next_offset - 1 - base_offset, -1, -1, 0, b"", first_in_group=True)
