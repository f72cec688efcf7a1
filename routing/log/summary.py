"""The summary of a segment: which topics are in it, how often, block by block; and how far the file was checked.

Used by segment.py. A reader with a filter skips whole blocks (about 1 MiB) and segments with no topic of its own, and
a count needs no reading but at its edge. The sidecar `<base>.summary` is also the checkpoint of recovery: the file is
known to be whole up to `position`. It can be made again, so it is not synced but carries checksums.

    +---------+--------+--------+----------+-------------+-------+--------------+--------------+-----------+
    | magic 8 | crc of | crc of | position | next offset | count | first, max   | crc of index | body size |  body
    |         | header | body   |    8     |      8      |   8   | timestamp 16 | timeindex 4+4|     4     |
    +---------+--------+--------+----------+-------------+-------+--------------+--------------+-----------+
    body: msgpack [topics, [[first offset, position, records, [topic numbers] | nil, [counts]], ...]]
"""
from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

import google_crc32c
import msgspec

from routing.log.batch import BatchHeader

BLOCK_BYTES = 1024 * 1024
BLOCK_RECORDS = 8192
BLOCK_TOPICS_MAX = 4096         # a block with more topics is not summarised: it is read
SEGMENT_TOPICS_MAX = 65_536     # the same for "any topic of the segment"

_HEADER = struct.Struct(">8sIIqqqqqIII")
_MAGIC = b"MGsum\x01\r\n"
_HEADER_CHECKED_FROM = 12

_Body: TypeAlias = tuple[list[str], list[tuple[int, int, int, list[int] | None, list[int]]]]
_decode_body = msgspec.msgpack.Decoder(_Body).decode


class Block:
    """A run of batches: first offset, position of the first batch, and its topics (None: too many to list)."""

    __slots__ = ("first_offset", "position", "records", "topics")

    def __init__(self, first_offset: int, position: int) -> None:
        self.first_offset = first_offset
        self.position = position
        self.records = 0
        self.topics: dict[str, int] | None = {}


class Mark(msgspec.Struct, frozen=True):
    """The header of a summary: how far the segment is known, and what that part holds."""

    position: int
    next_offset: int
    record_count: int
    first_timestamp: int        # -1 when empty
    max_timestamp: int          # -1 when empty
    index_crc: int
    timeindex_crc: int


class Summary:
    """Blocks of one segment, and their union of topics."""

    __slots__ = ("_topics", "blocks")

    def __init__(self, blocks: list[Block] | None = None) -> None:
        self.blocks: list[Block] = blocks or []
        self._topics: set[str] | None = set()
        for block in self.blocks:
            self._join(block.topics)

    def add(self, position: int, header: BatchHeader, topics: Iterable[str]) -> None:
        """Note the batch at position and the topic of each of its records; batches come in order."""
        block = self.blocks[-1] if self.blocks else None
        if (
            block is None
            or position + header.size - block.position > BLOCK_BYTES
            or block.records + header.record_count > BLOCK_RECORDS
        ):
            block = Block(header.base_offset, position)
            self.blocks.append(block)
        block.records += header.record_count
        counts = block.topics
        if counts is None:
            return
        known = len(counts)
        for topic, count in Counter(topics).items():        # counts in C
            counts[topic] = counts.get(topic, 0) + count
        if len(counts) == known:
            return
        self._join(counts)
        if len(counts) > BLOCK_TOPICS_MAX:
            block.topics = None

    def _join(self, topics: dict[str, int] | None) -> None:
        if topics is None:
            self._topics = None
        elif self._topics is not None:
            self._topics.update(topics)
            if len(self._topics) > SEGMENT_TOPICS_MAX:
                self._topics = None

    @property
    def topics(self) -> set[str] | None:
        """Every topic of the segment; None when there are too many to tell."""
        return self._topics

    def block_index(self, offset: int) -> int:
        """The index of the block that holds offset, 0 for one before the first block."""
        low, high = 0, len(self.blocks)
        while low < high:
            middle = (low + high) // 2
            if self.blocks[middle].first_offset <= offset:
                low = middle + 1
            else:
                high = middle
        return max(0, low - 1)

    def copy(self) -> Summary:
        """A snapshot that stays as it is while this one grows (only the last block does)."""
        snapshot = Summary()
        snapshot.blocks = self.blocks[:]
        if self.blocks:
            last = self.blocks[-1]
            twin = Block(last.first_offset, last.position)
            twin.records = last.records
            twin.topics = None if last.topics is None else dict(last.topics)
            snapshot.blocks[-1] = twin
        snapshot._topics = None if self._topics is None else set(self._topics)
        return snapshot


def encode_summary(mark: Mark, summary: Summary) -> bytes:
    numbers: dict[str, int] = {}
    blocks = [
        (
            block.first_offset, block.position, block.records,
            None if block.topics is None else [numbers.setdefault(topic, len(numbers)) for topic in block.topics],
            [] if block.topics is None else list(block.topics.values()),
        )
        for block in summary.blocks
    ]
    body = msgspec.msgpack.encode((list(numbers), blocks))
    checked = _HEADER.pack(
        _MAGIC, 0, google_crc32c.value(body), mark.position, mark.next_offset, mark.record_count,
        mark.first_timestamp, mark.max_timestamp, mark.index_crc, mark.timeindex_crc, len(body),
    )[_HEADER_CHECKED_FROM:]
    return b"".join((_MAGIC, struct.pack(">I", google_crc32c.value(checked)), checked, body))


def decode_mark(data: bytes) -> Mark | None:
    """The mark in a summary file, None when its header is damaged."""
    if len(data) < _HEADER.size:
        return None
    magic, crc, _, *fields, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC or google_crc32c.value(data[_HEADER_CHECKED_FROM:_HEADER.size]) != crc:
        return None
    return Mark(*fields)


def decode_summary(data: bytes) -> Summary | None:
    """The blocks in a summary file, None when it is damaged."""
    if decode_mark(data) is None:
        return None
    body_crc, body_size = _HEADER.unpack_from(data)[2], _HEADER.unpack_from(data)[10]
    body = data[_HEADER.size:]
    if len(body) != body_size or google_crc32c.value(body) != body_crc:
        return None
    try:
        topics, rows = _decode_body(body)
        blocks = []
        for first_offset, position, records, numbers, counts in rows:
            block = Block(first_offset, position)
            block.records = records
            block.topics = None if numbers is None else {topics[n]: count for n, count in zip(numbers, counts)}
            blocks.append(block)
    except (msgspec.DecodeError, IndexError):
        return None
    return Summary(blocks)


MARK_BYTES = _HEADER.size
