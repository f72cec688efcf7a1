"""DescribeLogDirs (35), versions 1 to 5: how much the partitions take on the disk.          Sources: KIP-113, KIP-827

The directory is named by the node's name for it and not by its path, which is nobody's business outside.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from routing.rights.policy import Action

SCHEMA = Schema(35, "DescribeLogDirs", 1, 5, flexible=2, request="""
    topics []? {
        topic string
        partitions []int32
    }
""", response="""
    throttle_time_ms int32
    error_code int16 3+
    results [] {
        error_code int16
        log_dir string
        topics [] {
            name string
            partitions [] {
                partition_index int32
                partition_size int64
                offset_lag int64
                is_future_key bool
            }
        }
        total_bytes int64 4+ = -1
        usable_bytes int64 4+ = -1
        is_cordoned bool 5+
    }
""")

DIRECTORY = "data"


async def handle(call: Call, request: Message) -> Values:
    topics = call.broker.topics
    if not topics.may(call.identity, Action.VIEW):
        return {"error_code": Code.CLUSTER_AUTHORIZATION_FAILED, "results": []}
    wanted = None if request.topics is None else {topic.topic: set(topic.partitions) for topic in request.topics}
    rows: list[dict[str, Any]] = []
    for stream in list(topics):
        name = topics.name_of(stream)
        if wanted is not None and name not in wanted:
            continue
        partitions = [
            {"partition_index": partition.index, "partition_size": partition.size_bytes, "offset_lag": 0}
            for partition in stream.partitions if wanted is None or partition.index in wanted[name]]
        rows.append({"name": name, "partitions": partitions})
        await call.rest()
    return {"results": [{"log_dir": DIRECTORY, "topics": rows}]}


API = Api(SCHEMA, handle)
