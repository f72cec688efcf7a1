"""Fetch: whole stored batches from an offset on, as they stand in the file, by one read.

Used by partition.py, for readers that take record batches as they are: Kafka clients. Nothing is decoded or copied
apart: the answer is a piece of the file from the batch that holds the offset, cut behind the last whole batch that
fits and that may be read. Checksums are the reader's to check, as in Kafka; a chain of batches that does not hold sends
the read the careful way (reader.py), which passes damage over.

What is in the page cache is read on the loop. What is not is read on a thread, which opens the file for itself, since
the loop may close its own meanwhile.
"""
from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from routing.errors import StorageError
from routing.log.handles import OpenSegments
from routing.log.reader import Reader
from routing.log.records.batch import HEADER_BYTES
from routing.log.segments.index import INDEX_INTERVAL_BYTES
from routing.log.segments.segment import Segment

HINTS_MAX = 1_024               # readers whose place in the file is remembered
SEARCH_BYTES = 4 * INDEX_INTERVAL_BYTES         # read in front of a batch whose place is not known

_CHAIN = struct.Struct(">qi4xb6xi")     # base offset, length, magic, last offset delta
_PREFIX_BYTES = 12


class OutOfRange(StorageError):
    """The offset is before the start of the partition, or behind its end."""


class Fetched(msgspec.Struct, frozen=True):
    """Whole batches, and where to go on. Empty: there is nothing that may be read from this offset on."""

    data: bytes
    next_offset: int


Answer = Callable[[Fetched | StorageError], None]


class Owner(Protocol):
    """What fetching needs of the store."""

    open_segments: OpenSegments

    def read_aside(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...


class Fetcher:
    """Of one partition. Loop thread only."""

    __slots__ = ("_hints", "_owner", "_reader", "_segments")

    def __init__(self, segments: Sequence[Segment], reader: Reader, owner: Owner) -> None:
        self._segments = segments
        self._reader = reader
        self._owner = owner
        self._hints: OrderedDict[int, tuple[Segment, int]] = OrderedDict()      # offset → where its batch begins

    def fetch(self, offset: int, end_offset: int, max_bytes: int, done: Answer | None = None) -> Fetched | None:
        """Batches from offset on, up to end_offset: at least one, if there is one, and about max_bytes.

        None: the disk is asked, and done is called on the loop with the answer. Without done the loop waits for it.
        """
        segment, following = self._reader.segment_of(offset)
        while offset >= segment.next_offset and following > offset and following < end_offset:
            offset = following                              # a gap that retention or damage left
            segment, following = self._reader.segment_of(offset)
        hint = self._hints.get(offset)
        if hint is not None and hint[0] is segment:
            position, size = hint[1], max_bytes
        else:
            position, size = segment.locate(offset)[0], max_bytes + SEARCH_BYTES
        size = max(min(size, segment.size - position), 0)
        data = segment.read_cached(position, size)
        if data is None and done is not None:
            self._read_aside(segment, position, size, offset, end_offset, max_bytes, done)
            return None
        if data is None:
            data = segment.read_bytes(position, size)
        return self._take(segment, position, data, offset, end_offset, max_bytes, segment.read_bytes)

    def _read_aside(self, segment: Segment, position: int, size: int, offset: int, end_offset: int, max_bytes: int,
                    done: Answer) -> None:
        fs, path, limit = segment.fs, segment.path(), segment.size

        def work() -> None:
            data: bytes | None = None
            try:
                file = fs.open(path)
                try:
                    data = file.pread(size, position)
                    if more := missing_bytes(data, offset, limit - position):
                        data = file.pread(more, position)
                finally:
                    file.close()
            except OSError:
                pass                                        # renamed or gone meanwhile, or broken: the loop looks again
            self._owner.on_loop(lambda: answer(data))

        def answer(data: bytes | None) -> None:
            try:
                if data is None or segment not in self._segments:
                    found = self.fetch(offset, end_offset, max_bytes)
                else:
                    found = self._take(segment, position, data, offset, end_offset, max_bytes, segment.read_bytes)
            except StorageError as error:
                done(error)
                return
            assert found is not None
            done(found)

        self._owner.read_aside(work)

    def _take(self, segment: Segment, position: int, data: bytes, offset: int, end_offset: int, max_bytes: int,
              read: Callable[[int, int], bytes]) -> Fetched:
        """Cut whole batches out of what was read at position."""
        start = skip_to(data, offset)
        if start < 0:
            more = missing_bytes(data, offset, segment.size - position)
            if more > len(data):
                data = read(position, more)
                start = skip_to(data, offset)
        if start >= 0:
            end, next_offset = cut(data, start, end_offset, max_bytes)
            if end > start:
                self._remember(next_offset, segment, position + end)
                return Fetched(data[start:end], next_offset)
            if end == start and next_offset >= 0:
                return Fetched(b"", offset)                 # the batch there may not be read yet
        return self._carefully(offset, end_offset, max_bytes)

    def _carefully(self, offset: int, end_offset: int, max_bytes: int) -> Fetched:
        """Batch by batch with every checksum: what is damaged is passed over."""
        pieces: list[bytes] = []
        next_offset = offset
        for batch in self._reader.read(offset, max_bytes):
            base, _, _, delta = _CHAIN.unpack_from(batch, 0)
            if base + delta + 1 > end_offset:
                break
            pieces.append(batch)
            next_offset = base + delta + 1
        return Fetched(b"".join(pieces), next_offset)

    def _remember(self, offset: int, segment: Segment, position: int) -> None:
        if position >= segment.size and segment is not self._segments[-1]:
            return                                          # it goes on in the next one
        self._hints[offset] = (segment, position)
        self._hints.move_to_end(offset)
        if len(self._hints) > HINTS_MAX:
            self._hints.popitem(last=False)


def skip_to(data: bytes, offset: int) -> int:
    """Where the batch that holds offset, or the first one behind it, begins; -1: not whole in data, or broken."""
    at, size = 0, len(data)
    while size - at >= HEADER_BYTES:
        base, length, magic, delta = _CHAIN.unpack_from(data, at)
        if magic != 2 or length < HEADER_BYTES - _PREFIX_BYTES or delta < 0:
            return -1
        if base + delta >= offset:
            return at if at + length + _PREFIX_BYTES <= size else -1
        at += length + _PREFIX_BYTES
    return -1


def missing_bytes(data: bytes, offset: int, bytes_max: int) -> int:
    """How much must be read from there to have the batch that holds offset whole; 0: it is, or it is not found."""
    at, size = 0, len(data)
    while size - at >= HEADER_BYTES:
        base, length, magic, delta = _CHAIN.unpack_from(data, at)
        if magic != 2 or length < HEADER_BYTES - _PREFIX_BYTES or delta < 0:
            return 0
        end = at + length + _PREFIX_BYTES
        if base + delta >= offset:
            return min(end, bytes_max) if end > size else 0
        at = end
    return min(at + 16 * 1024 * 1024, bytes_max) if at + HEADER_BYTES < bytes_max else 0


def cut(data: bytes, start: int, end_offset: int, max_bytes: int) -> tuple[int, int]:
    """Where the last whole batch ends that fits and stands below end_offset, and the offset after it.

    -1 as that offset: no valid batch begins at start.
    """
    at, size = start, len(data)
    expected = next_offset = -1
    while size - at >= HEADER_BYTES:
        base, length, magic, delta = _CHAIN.unpack_from(data, at)
        end = at + length + _PREFIX_BYTES
        if magic != 2 or length < HEADER_BYTES - _PREFIX_BYTES or delta < 0 or expected not in (-1, base):
            break
        next_offset = max(next_offset, base)
        if end > size or base + delta >= end_offset or (at > start and end - start > max_bytes):
            break
        at, expected = end, base + delta + 1
        next_offset = expected
    return at, next_offset
