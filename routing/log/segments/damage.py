"""Damage of a segment: what it is, and where reading can go on behind it.

Used by segment.py and recovery.py. Pure but for reading: `Source` is where the bytes come from.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from routing.log.records.batch import HEADER_BYTES, BatchHeader, batch_at, crc_is_right

READ_BYTES = 256 * 1024


class Damage(msgspec.Struct, frozen=True):
    """A part of a segment that cannot be read. end_offset: the first offset that can."""

    path: str
    position: int
    end_position: int
    first_offset: int
    end_offset: int
    what: str

    def __str__(self) -> str:
        return (
            f"{self.path}: bytes {self.position} to {self.end_position} are damaged ({self.what}); "
            f"offsets {self.first_offset} to {self.end_offset - 1} cannot be read"
        )


class Source(Protocol):
    def read_bytes(self, position: int, size: int) -> bytes: ...


def what_is_wrong(source: Source, position: int, expected: int) -> str:
    header = batch_at(source.read_bytes(position, HEADER_BYTES), 0)
    if header is None:
        return "no batch header"
    if header.base_offset != expected:
        return f"base offset {header.base_offset} where {expected} belongs"
    return "checksum mismatch"


def next_valid(
    source: Source, known_positions: Iterable[int], position: int, expected: int, end: int, offset_max: int,
    accept: Callable[[BatchHeader], bool],
) -> tuple[int, int] | None:
    """Position and base offset of the batch with which reading can go on behind an invalid one at position.

    The places that can be trusted come first: where the invalid batch says that it ends, and known_positions, where
    the indexes know a batch. Else every byte is tried; there a batch counts only when a chain of valid ones leads
    from it to the end of the data, because a payload may hold the image of a batch.
    """
    broken = batch_at(source.read_bytes(position, HEADER_BYTES), 0)
    if broken is not None and broken.base_offset == expected:
        after = position + broken.size
        header = valid_at(source, after, end, broken.next_offset, broken.next_offset, offset_max)
        if header is not None and accept(header):
            return after, header.base_offset
    for known in known_positions:
        header = valid_at(source, known, end, expected + 1, offset_max, offset_max)
        if header is not None and accept(header):
            return known, header.base_offset
    return _search(source, position + 1, expected + 1, end, offset_max, accept)


def valid_at(
    source: Source, position: int, end: int, lowest: int, highest: int, offset_max: int
) -> BatchHeader | None:
    """The header of a whole valid batch at position with a base offset in the range."""
    if position + HEADER_BYTES > end:
        return None
    header = batch_at(source.read_bytes(position, HEADER_BYTES), 0)
    if (
        header is None
        or not lowest <= header.base_offset <= highest
        or header.next_offset > offset_max
        or position + header.size > end
        or not crc_is_right(source.read_bytes(position, header.size), 0, header)
    ):
        return None
    return header


def _search(
    source: Source, position: int, expected: int, end: int, offset_max: int, accept: Callable[[BatchHeader], bool]
) -> tuple[int, int] | None:
    while position + HEADER_BYTES <= end:
        data = source.read_bytes(position, min(READ_BYTES + HEADER_BYTES, end - position))
        magic_at = data.find(b"\x02", 16)
        while magic_at >= 0 and magic_at - 16 + HEADER_BYTES <= len(data):
            candidate = position + magic_at - 16
            header = batch_at(data, magic_at - 16)
            if header is not None and header.base_offset >= expected and candidate + header.size <= end:
                header = valid_at(source, candidate, end, expected, offset_max, offset_max)
                if header is not None and accept(header) and _chain_holds(source, candidate, header, end, offset_max):
                    return candidate, header.base_offset
            magic_at = data.find(b"\x02", magic_at + 1)
        position += max(1, len(data) - HEADER_BYTES + 1)
    return None


def _chain_holds(source: Source, position: int, header: BatchHeader, end: int, offset_max: int) -> bool:
    """True when valid batches follow each other from position to the end of the data (or its reserved zeros)."""
    while position + header.size < end:
        position += header.size
        follower = valid_at(source, position, end, header.next_offset, header.next_offset, offset_max)
        if follower is None:
            return not source.read_bytes(position, min(HEADER_BYTES, end - position)).strip(b"\0")
        header = follower
    return True
