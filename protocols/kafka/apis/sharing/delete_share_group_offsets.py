"""DeleteShareGroupOffsets (92), version 0: where a share group without members has come to in topics. Who reads them
next begins where the options of the group say.                                                         Source: KIP-932
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.sharing.found import to_change
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.fields import ZERO_UUID
from protocols.kafka.codec.schema import Schema

if TYPE_CHECKING:
    from routing.ticket import Ticket

SCHEMA = Schema(92, "DeleteShareGroupOffsets", 0, 0, flexible=0, request="""
    group_id string
    topics [] {
        topic_name string
    }
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string? = null
    responses [] {
        topic_name string
        topic_id uuid
        error_code int16
        error_message string? = null
    }
""")


HAS_MEMBERS = {"error_code": Code.NON_EMPTY_GROUP, "error_message": "the group has members"}


async def handle(call: Call, request: Message) -> Values:
    broker = call.broker
    group = to_change(call, request.group_id)
    if not isinstance(group, tuple):
        return group
    found, consumer = group
    if found.members or consumer.members.all:
        return HAS_MEMBERS
    rows: list[dict[str, Any]] = []
    ticket: Ticket | None = None
    for topic in request.topics:
        stream = broker.topics.find(topic.topic_name)
        known = stream is not None and any(partition in consumer.cursors for partition in stream.partitions)
        if known and (found.members or consumer.members.all):       # has come while others had their turn
            return HAS_MEMBERS
        if known:
            ticket = broker.share_groups.delete_offsets(found, topic.topic_name)
        topic_id = broker.topics.id_of(stream) if stream is not None else ZERO_UUID
        rows.append({
            "topic_name": topic.topic_name, "topic_id": topic_id,
            "error_code": Code.NONE if known else Code.UNKNOWN_TOPIC_OR_PARTITION})
        await call.rest()
    if ticket is not None and (await call.durable(ticket)).refusals:
        return {"error_code": Code.KAFKA_STORAGE_ERROR, "error_message": "it could not be stored"}
    return {"responses": rows}


API = Api(SCHEMA, handle)
