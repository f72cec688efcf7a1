"""Reading batches as they are stored: for Fetch and ListOffsets."""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.log.records.batch import check_header

if TYPE_CHECKING:
    from routing.log.partition import Partition

READ_COMMITTED = 1


def end_of(partition: Partition, isolation: int) -> int:
    """One past the last record that a reader may see."""
    return partition.end_offset if isolation == READ_COMMITTED else partition.high_watermark


def since(partition: Partition, timestamp_ms: int, isolation: int) -> tuple[int, int] | None:
    """Time and offset of the first record of that time or a later one. Raises StorageError."""
    offset = partition.offset_for_time(timestamp_ms)
    if offset >= end_of(partition, isolation):
        return None
    event = partition.event(offset)
    return None if event is None else (event.timestamp_ms, offset)


def greatest_time(partition: Partition) -> tuple[int, int] | None:
    """Time and offset of the record with the greatest time. Raises StorageError."""
    newest = max((segment.max_timestamp for segment in partition.segments), default=-1)
    return since(partition, newest, 0) if newest >= 0 else None


def read(partition: Partition, offset: int, end: int, bytes_max: int, *, at_least_one: bool
         ) -> tuple[list[bytes], int]:
    """Whole batches from the one that holds offset, none that begins at end or behind, and the offset to go on from.

    at_least_one: one batch is taken however large it is. Raises StorageError.
    """
    batches = partition.read(offset, bytes_max)
    while batches and check_header(batches[-1]).next_offset > end:
        batches.pop()
    if not batches or (len(batches[0]) > bytes_max and not at_least_one):
        return [], offset
    return batches, check_header(batches[-1]).next_offset


def aborted(partition: Partition, batches: list[bytes], next_offset: int) -> list[dict[str, int]]:
    """The aborted transactions that have records in these batches, by their first offsets."""
    return []


def high_watermark(partition: Partition) -> int:
    """One past the last durable record, whether or not its transaction has ended."""
    return partition.high_watermark
