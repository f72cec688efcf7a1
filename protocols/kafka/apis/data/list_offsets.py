"""ListOffsets (2), versions 1 to 10: the first, the last, or the offset of a time.

-1 is the end (of what is committed, when the client reads committed records only), -2 and -4 the beginning, -3 the
record with the greatest time, -5 what is tiered, which nothing is; else milliseconds.   Sources: KIP-79, 734, 405, 1005
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import LEADER_EPOCH
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.log import fetching
from routing.errors import StorageError

if TYPE_CHECKING:
    from routing.log.partition import Partition

SCHEMA = Schema(2, "ListOffsets", 1, 10, flexible=6, request="""
    replica_id int32
    isolation_level int8 2+
    topics [] {
        name string
        partitions [] {
            partition_index int32
            current_leader_epoch int32 4+ = -1
            timestamp int64
        }
    }
    timeout_ms int32 10+
""", response="""
    throttle_time_ms int32 2+
    topics [] {
        name string
        partitions [] {
            partition_index int32
            error_code int16
            timestamp int64 = -1
            offset int64 = -1
            leader_epoch int32 4+ = -1
        }
    }
""")

LATEST, EARLIEST, MAX_TIME, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5


async def handle(call: Call, request: Message) -> Values:
    topics: list[dict[str, Any]] = []
    for asked in request.topics:
        stream = call.broker.topics.find(asked.name)
        readable = stream is not None and call.broker.topics.may_describe(call.identity, stream)
        rows: list[dict[str, Any]] = []
        for place in asked.partitions:
            row: dict[str, Any] = {"partition_index": place.partition_index}
            rows.append(row)
            if stream is None or not 0 <= place.partition_index < len(stream.partitions):
                row["error_code"] = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif not readable:
                row["error_code"] = Code.TOPIC_AUTHORIZATION_FAILED
            else:
                row.update(await _find(
                    stream.partitions[place.partition_index], place.timestamp, request.isolation_level))
            await call.rest()
        topics.append({"name": asked.name, "partitions": rows})
    return {"topics": topics}


async def _find(partition: Partition, timestamp: int, isolation: int) -> dict[str, Any]:
    if timestamp == LATEST:
        return _row(-1, fetching.end_of(partition, isolation))
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return _row(-1, partition.start_offset)
    if timestamp == LATEST_TIERED:
        return _row(-1, -1)
    if timestamp < 0 and timestamp != MAX_TIME:
        return {"error_code": Code.INVALID_REQUEST}
    try:
        found = await fetching.since(partition, None if timestamp == MAX_TIME else timestamp, isolation)
    except StorageError:
        return {"error_code": Code.KAFKA_STORAGE_ERROR}
    return {"error_code": Code.NONE, "timestamp": -1, "offset": -1} if found is None else _row(*found)


def _row(timestamp: int, offset: int) -> dict[str, Any]:
    return {"error_code": Code.NONE, "timestamp": timestamp, "offset": offset, "leader_epoch": LEADER_EPOCH}


API = Api(SCHEMA, handle)
