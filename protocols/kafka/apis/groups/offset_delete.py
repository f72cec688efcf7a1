"""OffsetDelete (47), version 0: forget offsets of a group in topics that none of its members reads.  Source: KIP-496"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.subscribed import topics_of
from routing.ticket import Ticket

SCHEMA = Schema(47, "OffsetDelete", 0, 0, flexible=None, request="""
    group_id string
    topics [] {
        name string
        partitions [] {
            partition_index int32
        }
    }
""", response="""
    error_code int16
    throttle_time_ms int32
    topics [] {
        name string
        partitions [] {
            partition_index int32
            error_code int16
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    groups = call.broker.groups
    if not groups.may_change(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    group = groups.by_id.get(request.group_id)
    if group is None:
        return {"error_code": Code.GROUP_ID_NOT_FOUND}
    read = topics_of(group)
    if read is not None and group.consumer is not None:
        read = read.union(*(member.topics for member in group.consumer.members.values()))
    if read is None:                                        # members whose metadata only they understand
        return {"error_code": Code.NON_EMPTY_GROUP}
    topics: list[dict[str, Any]] = []
    waiting: list[tuple[dict[str, Any], Ticket]] = []
    for asked in request.topics:
        rows: list[dict[str, Any]] = []
        for place in asked.partitions:
            code = Code.GROUP_SUBSCRIBED_TO_TOPIC if asked.name in read else Code.NONE
            row: dict[str, Any] = {"partition_index": place.partition_index, "error_code": code}
            ticket = None if code else groups.offsets.delete(request.group_id, asked.name, place.partition_index)
            if ticket is not None:
                waiting.append((row, ticket))
            rows.append(row)
            await call.rest()
        topics.append({"name": asked.name, "partitions": rows})
    for row, ticket in waiting:
        if (await call.durable(ticket)).refusals:
            row["error_code"] = Code.COORDINATOR_NOT_AVAILABLE
    return {"topics": topics}


API = Api(SCHEMA, handle)
