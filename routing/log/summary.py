"""The summary of a segment: which topics are in it, how often, block by block.

Used by segment.py and reader.py. A reader with a filter skips whole blocks (about 1 MiB) and segments with no topic
of its own, and a count needs no reading but at its edge. It is the body of the sidecar `<base>.summary`, behind the
mark (mark.py), which carries its checksum and says of which segment it is.

    body: msgpack [topics, [[first offset, position, records, [topic number, …] | nil, [count, …]], …]]
"""
from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from routing.log.batch import BatchHeader

BLOCK_BYTES = 1024 * 1024
BLOCK_RECORDS = 8192
BLOCK_TOPICS_MAX = 2048         # a block with more topics is not summarised: it is read. 8 bytes each
SEGMENT_TOPICS_MAX = 65_536     # topics of a segment that have a number; blocks with others are not summarised

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


def encode_summary(frozen: Frozen) -> bytes:
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
    return msgspec.msgpack.encode((frozen.topics, blocks))


def decode_summary(body: bytes) -> Summary | None:
    """None: it is not what encode_summary makes. Its checksum is the mark's business."""
    try:
        topics, rows = _decode_body(body)
    except msgspec.MsgspecError:
        return None
    blocks = []
    for first_offset, position, records, numbers, counts in rows:
        block = Block(first_offset, position)
        block.records = records
        block.numbers = None if numbers is None else array("I", numbers)
        block.counts = None if numbers is None else array("I", counts)
        blocks.append(block)
    return Summary(topics, blocks)
