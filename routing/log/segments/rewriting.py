"""Rewriting: a new segment that takes over some records of old ones, with their offsets and their bytes.

Used by compaction.py and kept/lifting.py on the keeper thread. What is left out makes no hole in the chain of batches
(batch.py): the batch before it declares a later last offset, as Kafka's cleaner may; where there is none before it, an
empty batch stands.
"""
from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import msgspec

from routing.event import Event
from routing.log.fs import FileSystem
from routing.log.records.batch import (
    CODEC_MASK,
    CONTROL_MASK,
    HEADER_BYTES,
    BatchHeader,
    batch_at,
    build_batch,
    read_varint,
)
from routing.log.records.decode import Decoder
from routing.log.records.verdicts import Verdicts
from routing.log.segments.damage import Damage
from routing.log.segments.index import RELATIVE_OFFSET_MAX, IndexBuilder
from routing.log.segments.segment import Found, Segment
from routing.log.segments.sidecars import LOG

_WRITE_BYTES = 1024 * 1024


class Source(msgspec.Struct, frozen=True):
    """A sealed segment as the keeper thread sees it."""

    base_offset: int
    next_offset: int
    size: int
    opened_ms: int
    appended_ms: int


class CleaningFailed(Exception):
    """A source could not be read; the text says where."""


def batches_of(fs: FileSystem, directory: Path, source: Source, suffix: str = LOG) -> Iterator[Found]:
    """The batches of a source. Raises CleaningFailed at damage: nothing may be cleaned away around it."""
    segment = Segment(fs, directory, source.base_offset, suffix=suffix)
    segment.size, segment.next_offset = source.size, source.next_offset
    segment.builder = None

    def stop(damage: Damage) -> None:
        raise CleaningFailed(str(damage))

    segment.on_damage = stop
    try:
        yield from segment.batches(0, source.base_offset)
    finally:
        segment.close()


class Output:
    """A new file that grows batch by batch. The last batch is held back until it is known how far it reaches."""

    def __init__(self, fs: FileSystem, directory: Path, base_offset: int, decoder: Decoder, suffix: str) -> None:
        self.segment = Segment(fs, directory, base_offset, suffix=suffix)
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

    def finish(self, next_offset: int) -> None:
        """Write the rest and sync."""
        if self._held is None:
            self._emit_empty(self.segment.next_offset, next_offset)
        else:
            self._emit(next_offset)
        self._flush()
        self._file.datasync()

    def hold(self, header: BatchHeader, records: bytes, count: int, max_timestamp: int) -> None:
        """What is to stay of a batch: the bytes of so many records, one behind the other."""
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


def empty_batch(base_offset: int, next_offset: int) -> bytes:
    """A batch without records that stands for the offsets from base_offset up to next_offset."""
    return build_batch(base_offset, next_offset - 1 - base_offset, -1, -1, 0, b"", first_in_group=True)
