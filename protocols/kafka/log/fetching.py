"""Reading batches as they are stored: for Fetch and ListOffsets. See docs/kafka-log.md for the doors used here."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.kafka.runtime.call import Call
from protocols.kafka.runtime.tasks import Later
from routing.errors import StorageError
from routing.log.fetch import Fetched

if TYPE_CHECKING:
    from routing.log.partition import Partition

READ_COMMITTED = 1


def high_watermark(partition: Partition) -> int:
    """One past the last durable record, whether or not its transaction has ended."""
    return partition.high_watermark


def end_of(partition: Partition, isolation: int) -> int:
    """One past the last record that a reader may see."""
    return partition.end_offset if isolation == READ_COMMITTED else partition.high_watermark


async def since(partition: Partition, timestamp_ms: int | None, isolation: int) -> tuple[int, int] | None:
    """Time and offset of the first record of that time or a later one; None: of the greatest time. Raises StorageError.

    A batch that is large, or compressed, is looked through on a thread.
    """
    later: Later[tuple[int, int] | StorageError | None] = Later()
    if timestamp_ms is None:
        partition.find_latest(later.set)
    else:
        partition.find_time(timestamp_ms, later.set)
    found = await later
    if isinstance(found, StorageError):
        raise found
    return None if found is None or found[0] >= end_of(partition, isolation) else (found[1], found[0])


async def read(call: Call, partition: Partition, offset: int, bytes_max: int, isolation: int) -> tuple[bytes, int]:
    """Whole batches from the one that holds offset, one at least if there is one, and the offset to go on from.

    What is not in memory is read on a thread. Raises StorageError, and OutOfRange when retention was faster.
    """
    later: Later[Fetched | StorageError] = Later()
    found = partition.fetch(offset, bytes_max, committed=isolation == READ_COMMITTED, done=later.set)
    outcome = await later if found is None else found
    if isinstance(outcome, StorageError):
        raise outcome
    return outcome.data, outcome.next_offset


def aborted(partition: Partition, offset: int, next_offset: int) -> list[dict[str, int]]:
    """The aborted transactions that have records in between, by their first offsets: who reads committed records
    only leaves theirs out.
    """
    return [{"producer_id": found.producer_id, "first_offset": found.first_offset}
            for found in partition.producers.aborted_between(offset, next_offset)]
