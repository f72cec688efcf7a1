"""AlterShareGroupOffsets (91), version 0: a share group without members goes on from other records.  Source: KIP-932"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.sharing.found import to_change
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

if TYPE_CHECKING:
    from routing.log.partition import Partition

SCHEMA = Schema(91, "AlterShareGroupOffsets", 0, 0, flexible=0, request="""
    group_id string
    topics [] {
        topic_name string
        partitions [] {
            partition_index int32
            start_offset int64
        }
    }
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string? = null
    responses [] {
        topic_name string
        topic_id uuid
        partitions [] {
            partition_index int32
            error_code int16
            error_message string? = null
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    broker = call.broker
    group = to_change(call, request.group_id)
    if not isinstance(group, tuple):
        return group
    found, consumer = group
    rows: list[dict[str, Any]] = []
    moved: dict[Partition, int] = {}
    for topic in request.topics:
        stream = broker.topics.find(topic.topic_name)
        partitions: list[dict[str, Any]] = []
        for place in topic.partitions:
            known = stream.partitions[place.partition_index] if stream is not None and (
                0 <= place.partition_index < len(stream.partitions)) else None
            code = Code.NONE if known is not None and known in consumer.cursors else Code.UNKNOWN_TOPIC_OR_PARTITION
            if known is not None and not code:
                moved[known] = min(max(place.start_offset, known.start_offset), known.end_offset)
            partitions.append({"partition_index": place.partition_index, "error_code": code})
            await call.rest()
        rows.append({"topic_name": topic.topic_name, "partitions": partitions,
                     "topic_id": broker.topics.id_of(stream) if stream is not None else bytes(16)})
    if found.members or consumer.members.all:
        return {"error_code": Code.NON_EMPTY_GROUP, "error_message": "the group has members"}
    if moved:
        consumer.seek(moved)
        ticket = broker.router.registry.checkpoint(consumer)
        if ticket is not None and (await call.durable(ticket)).refusals:
            return {"error_code": Code.KAFKA_STORAGE_ERROR, "error_message": "it could not be stored"}
    return {"responses": rows}


API = Api(SCHEMA, handle)
