"""The summary of a segment: which topics are in it, how often, block by block.

Used by segment.py and reader.py. A reader with a filter skips whole blocks (about 1 MiB) and segments with no topic
of its own, and a count needs no reading but at its edge. It is the body of the sidecar `<base>.summary`, behind the
mark (mark.py), which carries its checksum and says of which segment it is.

    body: msgpack [topics, [[first offset, position, records, topic numbers | nil, counts, prints | nil], …]]
          numbers are 2 bytes each, counts and prints 4, little-endian

A segment lists so many topics and no more. A block with others has prints instead (prints.py): a reader can still tell
that nothing of its own is in there, but not count without reading.
"""
from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from routing.log.records.batch import BatchHeader
from routing.log.records.prints import add_prints, may_hold
from routing.log.records.verdicts import Verdicts

BLOCK_BYTES = 1024 * 1024
BLOCK_RECORDS = 8192
BLOCK_TOPICS_MAX = 8192                     # as many as it has records; 6 bytes each
SEGMENT_TOPICS_MAX = 65_536                 # topics of a segment that have a number
SEGMENT_TOPIC_CHARS_MAX = 4 * 1024 * 1024   # and their text: 64 characters each
BLOCK_PRINTS_MAX = 32_768                   # of a block; with more it is always read. 4 bytes each
SEGMENT_PRINTS_MAX = 2 * 1024 * 1024        # of a segment: 8 MiB beside 256 MiB of events

_Row: TypeAlias = tuple[int, int, int, bytes | None, bytes, bytes | None]
_Read: TypeAlias = list[int | bytes | list[int] | None]     # lists of numbers, and no prints, are of older builds
_decode_body = msgspec.msgpack.Decoder(tuple[list[str], list[_Read]]).decode


class Block:
    """A run of batches: first offset, position of the first batch, and its topics by number.

    numbers and counts go together; both are None when it has topics without a number. Then prints tells what it may
    hold, None: anything. They are a set while the block grows, and sorted when it is done.
    """

    __slots__ = ("counts", "first_offset", "numbers", "position", "prints", "records")

    def __init__(self, first_offset: int, position: int) -> None:
        self.first_offset = first_offset
        self.position = position
        self.records = 0
        self.numbers: array[int] | None = array("H")
        self.counts: array[int] | None = array("I")
        self.prints: set[int] | array[int] | None = None

    def may_hold(self, summary: Summary, wanted: Verdicts) -> bool:
        """False when no event of the block has a wanted topic."""
        if self.numbers is None:
            return self.prints is None or may_hold(self.prints, wanted.probes)
        if wanted.exact is not None:
            return any(summary.number(topic) in self.numbers for topic in wanted.exact if wanted[topic])
        topics = summary.topics
        return any(wanted[topics[number]] for number in self.numbers)

    def close(self) -> None:
        """No batch follows."""
        if isinstance(self.prints, set):
            self.prints = array("I", sorted(self.prints))


class Summary:
    """Blocks of one segment, and its topics; a topic's number is its place in that list.

    is_complete: no event of the segment has a topic that is not in the list.
    """

    __slots__ = ("_chars", "_listed", "_numbers", "_places", "_prints", "blocks", "is_complete", "topics")

    def __init__(self, topics: list[str] | None = None, blocks: list[Block] | None = None) -> None:
        self.topics: list[str] = topics or []
        self.blocks: list[Block] = blocks or []
        self.is_complete = all(block.numbers is not None for block in self.blocks)
        self._chars = sum(map(len, self.topics))
        self._listed = sum(len(block.numbers) for block in self.blocks if block.numbers is not None)
        self._prints = sum(len(block.prints) for block in self.blocks if block.prints is not None)
        self._numbers: dict[str, int] = {topic: number for number, topic in enumerate(self.topics)}
        self._places: dict[int, int] = {}           # topic number -> its place in the last block
        if self.blocks and self.blocks[-1].numbers is not None:
            self._places = {number: place for place, number in enumerate(self.blocks[-1].numbers)}

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        return 200 * len(self.topics) + self._chars + 300 * len(self.blocks) + 6 * self._listed + 4 * self._prints

    def number(self, topic: str) -> int:
        """The number of a topic, -1 when it is not listed."""
        return self._numbers.get(topic, -1)

    def add(self, position: int, header: BatchHeader, topics: Iterable[str]) -> None:
        """Note the batch at position and the topic of each of its records; batches come in order."""
        block = self.blocks[-1] if self.blocks else None
        if (
            block is None
            or position + header.size - block.position > BLOCK_BYTES
            or block.records + header.record_count > BLOCK_RECORDS
        ):
            if block is not None:
                block.close()
            block = Block(header.base_offset, position)
            self.blocks.append(block)
            self._places = {}
        block.records += header.record_count
        counted = Counter(topics)                           # counts in C
        if block.numbers is None or block.counts is None:
            self._print(block, counted)
            return
        for topic, count in counted.items():
            number = self._number(topic)
            place = None if number is None else self._places.get(number)
            if place is not None:
                block.counts[place] += count
            elif number is None or len(block.numbers) >= BLOCK_TOPICS_MAX:
                self._stop_listing(block, counted)
                return
            else:
                self._places[number] = len(block.numbers)
                self._listed += 1
                block.numbers.append(number)
                block.counts.append(count)

    def _stop_listing(self, block: Block, counted: Iterable[str]) -> None:
        assert block.numbers is not None
        listed = [self.topics[number] for number in block.numbers]
        self._listed -= len(listed)
        block.numbers = block.counts = None
        self.is_complete = False
        block.prints = set()
        self._print(block, listed)
        self._print(block, counted)

    def _print(self, block: Block, topics: Iterable[str]) -> None:
        prints = block.prints
        if prints is None:
            return
        if not isinstance(prints, set):                     # it was read from the sidecar and grows on
            prints = block.prints = set(prints)
        before = len(prints)
        add_prints(prints, topics)
        self._prints += len(prints) - before
        if len(prints) > BLOCK_PRINTS_MAX or self._prints > SEGMENT_PRINTS_MAX:
            self._prints -= len(prints)
            block.prints = None

    def _number(self, topic: str) -> int | None:
        number = self._numbers.get(topic)
        if number is None and len(self.topics) < SEGMENT_TOPICS_MAX and (
                self._chars + len(topic) <= SEGMENT_TOPIC_CHARS_MAX):
            number = self._numbers[topic] = len(self.topics)
            self._chars += len(topic)
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
    last: _Row | None


def freeze(summary: Summary) -> Frozen:
    return Frozen(summary.topics[:], summary.blocks[:-1], _row(summary.blocks[-1]) if summary.blocks else None)


def encode_summary(frozen: Frozen) -> bytes:
    rows = [_row(block) for block in frozen.blocks]
    if frozen.last is not None:
        rows.append(frozen.last)
    return msgspec.msgpack.encode((frozen.topics, rows))


def decode_summary(body: bytes) -> Summary | None:
    """None: it is not what encode_summary makes. Its checksum is the mark's business."""
    try:
        topics, rows = _decode_body(body)
        return Summary(topics, [_block(row) for row in rows])
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError):
        return None


def _row(block: Block) -> _Row:
    prints = block.prints
    if isinstance(prints, set):
        prints = array("I", sorted(prints))
    return (
        block.first_offset, block.position, block.records,
        None if block.numbers is None else _bytes(block.numbers), b"" if block.counts is None else _bytes(block.counts),
        None if prints is None else _bytes(prints))


def _block(row: _Read) -> Block:
    first_offset, position, records, numbers, counts, *prints = row
    assert isinstance(first_offset, int) and isinstance(position, int) and isinstance(records, int)
    block = Block(first_offset, position)
    block.records = records
    block.numbers = None if numbers is None else _array("H", numbers)
    block.counts = None if numbers is None else _array("I", counts)
    block.prints = _array("I", prints[0]) if prints and prints[0] is not None else None
    return block


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(code: str, stored: int | bytes | list[int] | None) -> array[int]:
    if isinstance(stored, list):
        return array(code, stored)
    if not isinstance(stored, bytes):
        raise ValueError("neither bytes nor a list")
    numbers: array[int] = array(code)
    numbers.frombytes(stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
