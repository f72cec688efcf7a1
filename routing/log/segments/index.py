"""Sparse indexes of a segment, in Kafka's own formats: offset -> position and timestamp -> offset.

Used by segment.py. Both can be made again from the segment, so they are never synced, and summary.py keeps their
checksums.

    .index       entries of 8 bytes:  last offset of a batch, relative to the segment (4) | position of the batch (4)
    .timeindex   entries of 12 bytes: largest timestamp so far (8) | last offset of its batch, relative (4)
                                                        Source: Kafka, OffsetIndex.java and TimeIndex.java
"""
from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from routing.log.records.batch import BatchHeader

INDEX_INTERVAL_BYTES = 4096         # Kafka's index.interval.bytes
RELATIVE_OFFSET_MAX = 2**30         # a segment is rolled before its offsets outgrow the entries (2**31 - 1)

_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")


class IndexBuilder:
    """Collects the entries of one segment, batch by batch."""

    __slots__ = ("_base_offset", "_bytes_since", "_max_timestamp", "_max_timestamp_last", "offsets", "times")

    def __init__(self, base_offset: int) -> None:
        self._base_offset = base_offset
        self._bytes_since = 0
        self._max_timestamp = -1
        self._max_timestamp_last = -1
        self.offsets = bytearray()
        self.times = bytearray()

    @classmethod
    def resume(cls, base_offset: int, offsets: bytes, times: bytes) -> IndexBuilder:
        """Go on where a checkpoint ended."""
        builder = cls(base_offset)
        builder.offsets += offsets
        builder.times += times
        if times:
            timestamp, last = _TIME_ENTRY.unpack_from(times, len(times) - _TIME_ENTRY.size)
            builder._max_timestamp, builder._max_timestamp_last = timestamp, last
        return builder

    def add(self, position: int, header: BatchHeader) -> None:
        """Note the batch at position; batches come in order."""
        last = header.next_offset - 1 - self._base_offset
        if header.max_timestamp > self._max_timestamp and header.record_count:
            self._max_timestamp, self._max_timestamp_last = header.max_timestamp, last
        if self._bytes_since >= INDEX_INTERVAL_BYTES:
            self.offsets += _OFFSET_ENTRY.pack(last, position)
            self.finish()
            self._bytes_since = 0
        self._bytes_since += header.size

    def finish(self) -> None:
        """Write down the largest timestamp so far. Called when the segment is sealed or checkpointed too."""
        if self._max_timestamp_last >= 0 and self._max_timestamp > last_time(self.times):
            self.times += _TIME_ENTRY.pack(self._max_timestamp, self._max_timestamp_last)


def last_time(times: bytes | bytearray) -> int:
    """The largest timestamp in a time index, -1 when it is empty."""
    if not times:
        return -1
    timestamp: int = _TIME_ENTRY.unpack_from(times, len(times) - _TIME_ENTRY.size)[0]
    return timestamp


def position_before(offsets: bytes | bytearray, relative_offset: int) -> int:
    """A position of a batch from which reading forward meets relative_offset. 0 when the index knows none."""
    count = len(offsets) // _OFFSET_ENTRY.size
    # The entry holds the last offset of its batch: the first entry at or after the offset is the batch that has it,
    # or one behind it, so that only the entry before is sure to stand at or before the offset's batch.
    index = bisect_left(range(count), relative_offset, key=lambda i: _offset_entry(offsets, i)[0])
    return _offset_entry(offsets, index - 1)[1] if index else 0


def positions_after(offsets: bytes | bytearray, position: int) -> Iterator[int]:
    """The positions of batches behind position that the index knows, in order."""
    count = len(offsets) // _OFFSET_ENTRY.size
    for index in range(bisect_right(range(count), position, key=lambda i: _offset_entry(offsets, i)[1]), count):
        yield _offset_entry(offsets, index)[1]


def _offset_entry(offsets: bytes | bytearray, index: int) -> tuple[int, int]:
    last, position = _OFFSET_ENTRY.unpack_from(offsets, index * _OFFSET_ENTRY.size)
    return last, position


def relative_offset_before(times: bytes | bytearray, timestamp_ms: int) -> int:
    """A relative offset with nothing as late as timestamp_ms before it. 0 when the index knows none."""
    count = len(times) // _TIME_ENTRY.size
    index = bisect_right(range(count), timestamp_ms - 1, key=lambda i: _time_entry(times, i)[0])
    return _time_entry(times, index - 1)[1] + 1 if index else 0


def _time_entry(times: bytes | bytearray, index: int) -> tuple[int, int]:
    timestamp, last = _TIME_ENTRY.unpack_from(times, index * _TIME_ENTRY.size)
    return timestamp, last
