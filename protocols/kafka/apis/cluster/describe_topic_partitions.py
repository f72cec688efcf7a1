"""DescribeTopicPartitions (75), version 0: topics with their partitions, page by page.               Source: KIP-966"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import partitions, topic_operations
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(75, "DescribeTopicPartitions", 0, 0, flexible=0, request="""
    topics [] {
        name string
    }
    response_partition_limit int32 = 2000
    cursor ? = null {
        topic_name string
        partition_index int32
    }
""", response="""
    throttle_time_ms int32
    topics [] {
        error_code int16
        name string?
        topic_id uuid
        is_internal bool
        partitions [] {
            error_code int16
            partition_index int32
            leader_id int32
            leader_epoch int32 = -1
            replica_nodes []int32
            isr_nodes []int32
            eligible_leader_replicas []int32? = null
            last_known_elr []int32? = null
            offline_replicas []int32
        }
        topic_authorized_operations int32 = -2147483648
    }
    next_cursor ? = null {
        topic_name string
        partition_index int32
    }
""")

PARTITIONS_MAX = 2_000          # of one answer


async def handle(call: Call, request: Message) -> Values:
    topics = call.broker.topics
    names = sorted({topic.name for topic in request.topics}) or sorted(
        topics.name_of(stream) for stream in topics if topics.may_describe(call.identity, stream))
    first = ("", 0) if request.cursor is None else (request.cursor.topic_name, max(request.cursor.partition_index, 0))
    room = min(max(request.response_partition_limit, 1), PARTITIONS_MAX)
    rows: list[dict[str, Any]] = []
    for name in names:
        if name < first[0]:
            continue
        start = first[1] if name == first[0] else 0
        if room <= 0:
            return {"topics": rows, "next_cursor": {"topic_name": name, "partition_index": start}}
        stream = topics.find(name)
        if stream is None:
            rows.append({"name": name, "error_code": Code.UNKNOWN_TOPIC_OR_PARTITION})
        elif not topics.may_describe(call.identity, stream):
            rows.append({"name": name, "error_code": Code.TOPIC_AUTHORIZATION_FAILED})
        else:
            found = partitions(call, stream)[start:]
            rows.append({"name": name, "topic_id": topics.id_of(stream), "partitions": found[:room],
                         "topic_authorized_operations": topic_operations(call, stream)})
            if len(found) > room:
                return {"topics": rows, "next_cursor": {"topic_name": name, "partition_index": start + room}}
            room -= len(found)
        await call.rest()
    return {"topics": rows}


API = Api(SCHEMA, handle)
