"""Records before an offset go: for DeleteRecords."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.kafka.codec.errors import Code
from protocols.kafka.log import fetching
from protocols.kafka.runtime.call import Call

if TYPE_CHECKING:
    from routing.log.partition import Partition

END = -1


async def trim(call: Call, partition: Partition, offset: int) -> tuple[int] | Code:
    """The new start, once it is durable; or why not."""
    end = fetching.high_watermark(partition)
    wanted = end if offset == END else offset
    if not 0 <= wanted <= end:
        return Code.OFFSET_OUT_OF_RANGE
    if (await call.durable(partition.trim(wanted))).refusals:
        return Code.OFFSET_OUT_OF_RANGE if wanted > partition.end_offset else Code.KAFKA_STORAGE_ERROR
    return (partition.start_offset,)
