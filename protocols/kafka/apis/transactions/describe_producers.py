"""DescribeProducers (61), version 0: who has written to a partition last, and whose transactions are open there.
                                                                                                    Source: KIP-664
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from routing.streams.streams import Stream

PRODUCERS_MAX = 50_000      # told in one answer: those that one partition may have

SCHEMA = Schema(61, "DescribeProducers", 0, 0, flexible=0, request="""
    topics [] {
        name string
        partition_indexes []int32
    }
""", response="""
    throttle_time_ms int32
    topics [] {
        name string
        partitions [] {
            partition_index int32
            error_code int16
            error_message string?
            active_producers [] {
                producer_id int64
                producer_epoch int32
                last_sequence int32 = -1
                last_timestamp int64 = -1
                coordinator_epoch int32
                current_txn_start_offset int64 = -1
            }
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    asked: dict[str, dict[int, None]] = {}
    for topic in request.topics:                            # each partition once, however often it is named
        asked.setdefault(topic.name, {}).update(dict.fromkeys(topic.partition_indexes))
    topics: list[dict[str, Any]] = []
    room = PRODUCERS_MAX
    for name, indexes in asked.items():
        stream = call.broker.topics.find(name)
        rows: list[dict[str, Any]] = []
        for index in indexes:
            row: dict[str, Any] = await _describe(call, stream, index) if room > 0 else {
                "error_code": Code.INVALID_REQUEST, "active_producers": [],
                "error_message": f"more than {PRODUCERS_MAX} producers: ask for fewer partitions at once"}
            room -= len(row["active_producers"])
            rows.append({"partition_index": index, **row})
        topics.append({"name": name, "partitions": rows})
    return {"topics": topics}


async def _describe(call: Call, stream: Stream | None, index: int) -> dict[str, Any]:
    topics = call.broker.topics
    if stream is None or not 0 <= index < len(stream.partitions):
        return {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION, "active_producers": []}
    if not topics.may_read(call.identity, stream):
        topics.note_denial(call.identity, stream)
        return {"error_code": Code.TOPIC_AUTHORIZATION_FAILED, "active_producers": []}
    rows: list[dict[str, Any]] = []
    for producer in list(stream.partitions[index].producers.known.values()):
        rows.append({
            "producer_id": producer.id, "producer_epoch": producer.epoch,
            "last_sequence": producer.batches[-1].last if producer.batches else -1,
            "last_timestamp": producer.last_ms, "coordinator_epoch": producer.coordinator_epoch,
            "current_txn_start_offset": producer.open_from})
        await call.rest()
    return {"active_producers": rows}


API = Api(SCHEMA, handle)
