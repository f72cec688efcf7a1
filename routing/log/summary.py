"""The summary of a segment: which topics are in it, how often, block by block; and how far the file was checked.

Used by segment.py and reader.py. A reader with a filter skips whole blocks (about 1 MiB) and segments with no topic
of its own, and a count needs no reading but at its edge. The sidecar `<base>.summary` is also the checkpoint of
recovery: the file is known to be whole up to `position`. It can be made again, so it is not synced but carries
checksums.

    +---------+--------+--------+----------+-------------+-------+--------------+--------------+-----------+
    | magic 8 | crc of | crc of | position | next offset | count | first, max   | crc of index | body size |  body
    |         | header | body   |    8     |      8      |   8   | timestamp 16 | timeindex 4+4|     4     |
    +---------+--------+--------+----------+-------------+-------+--------------+--------------+-----------+
    body: msgpack [topics, [[first offset, position, records, [topic number, …] | nil, [count, …]], …]]
"""
from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import google_crc32c
import msgspec

from routing.log.batch import BatchHeader

BLOCK_BYTES = 1024 * 1024
BLOCK_RECORDS = 8192
BLOCK_TOPICS_MAX = 2048         # a block with more topics is not summarised: it is read. 8 bytes each
SEGMENT_TOPICS_MAX = 65_536     # topics of a segment that have a number; blocks with others are not summarised

_HEADER = struct.Struct(">8sIIqqqqqIII")
_MAGIC = b"MGsum\x01\r\n"
_HEADER_CHECKED_FROM = 12

_Body: TypeAlias = tuple[list[str], list[tuple[int, int, int, list[int] | None, list[int]]]]
_decode_body = msgspec.msgpack.Decoder(_Body).decode


class Block:
    """A run of batches: first offset, position of the first batch, and its topics by number.

    numbers and counts go together; both are None when there are too many topics to list.
    """

    __slots__ = ("counts", "first_offset", "numbers", "position", "records")

    def __init__(self, first_offset: int, position: int) -> None:
        self.first_offset = first_offset
        self.position = position
        self.records = 0
        self.numbers: array[int] | None = array("I")
        self.counts: array[int] | None = array("I")

    def may_hold(self, topics: Sequence[str], wanted: Mapping[str, bool]) -> bool:
        """False when no event of the block has a wanted topic."""
        return self.numbers is None or any(wanted[topics[number]] for number in self.numbers)

    def count(self, topics: Sequence[str], wanted: Mapping[str, bool]) -> int:
        """How many of its events have a wanted topic."""
        assert self.numbers is not None and self.counts is not None
        return sum(count for number, count in zip(self.numbers, self.counts) if wanted[topics[number]])


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
    """Blocks of one segment, and its topics; a topic's number is its place in that list.

    is_complete: no event of the segment has a topic that is not in the list.
    """

    __slots__ = ("_numbers", "_places", "blocks", "is_complete", "topics")

    def __init__(self, topics: list[str] | None = None, blocks: list[Block] | None = None) -> None:
        self.topics: list[str] = topics or []
        self.blocks: list[Block] = blocks or []
        self.is_complete = all(block.numbers is not None for block in self.blocks)
        self._numbers: dict[str, int] = {topic: number for number, topic in enumerate(self.topics)}
        self._places: dict[int, int] = {}           # topic number -> its place in the last block
        if self.blocks and self.blocks[-1].numbers is not None:
            self._places = {number: place for place, number in enumerate(self.blocks[-1].numbers)}

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
            self._places = {}
        block.records += header.record_count
        for topic, count in Counter(topics).items():        # counts in C
            if block.numbers is None or block.counts is None:
                return
            number = self._number(topic)
            place = None if number is None else self._places.get(number)
            if place is not None:
                block.counts[place] += count
            elif number is None or len(block.numbers) >= BLOCK_TOPICS_MAX:
                block.numbers = block.counts = None
                self.is_complete = False
            else:
                self._places[number] = len(block.numbers)
                block.numbers.append(number)
                block.counts.append(count)

    def _number(self, topic: str) -> int | None:
        number = self._numbers.get(topic)
        if number is None and len(self.topics) < SEGMENT_TOPICS_MAX:
            number = self._numbers[topic] = len(self.topics)
            self.topics.append(topic)
        return number

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


class Frozen(msgspec.Struct, frozen=True):
    """What encode_summary needs of a summary, safe from its further growth: only the last block grows in place."""

    topics: list[str]
    blocks: list[Block]
    last_records: int
    last_numbers: list[int] | None
    last_counts: list[int]


def freeze(summary: Summary) -> Frozen:
    last = summary.blocks[-1] if summary.blocks else None
    return Frozen(
        summary.topics[:], summary.blocks[:], 0 if last is None else last.records,
        None if last is None or last.numbers is None else last.numbers.tolist(),
        [] if last is None or last.counts is None else last.counts.tolist(),
    )


def encode_summary(mark: Mark, frozen: Frozen) -> bytes:
    blocks = [
        (
            block.first_offset, block.position, block.records,
            None if block.numbers is None else block.numbers.tolist(),
            [] if block.counts is None else block.counts.tolist(),
        )
        for block in frozen.blocks[:-1]
    ]
    if frozen.blocks:
        last = frozen.blocks[-1]
        blocks.append((last.first_offset, last.position, frozen.last_records, frozen.last_numbers, frozen.last_counts))
    body = msgspec.msgpack.encode((frozen.topics, blocks))
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
    topics, rows = _decode_body(body)
    blocks = []
    for first_offset, position, records, numbers, counts in rows:
        block = Block(first_offset, position)
        block.records = records
        block.numbers = None if numbers is None else array("I", numbers)
        block.counts = None if numbers is None else array("I", counts)
        blocks.append(block)
    return Summary(topics, blocks)


MARK_BYTES = _HEADER.size
