"""OffsetCommit (8), versions 2 to 9: how far a group has read, by a member or from outside. Acked when it is on disk.

From outside (generation -1) only while the group has no members. An offset below 0 is kept like any other, as on Kafka:
kafkajs resets a group by it, and its members begin where they begin without an offset. Metadata comes back as it was.
The retention time of versions 2 to 4 is not looked at, as on Kafka since 2.1: offsets go with their group.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import LEADER_EPOCH
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.group import State
from protocols.kafka.groups.offsets import Committed
from routing.ticket import Ticket

SCHEMA = Schema(8, "OffsetCommit", 2, 9, flexible=8, request="""
    group_id string
    generation_id_or_member_epoch int32 = -1
    member_id string
    group_instance_id string? 7+ = null
    retention_time_ms int64 2-4 = -1
    topics [] {
        name string
        partitions [] {
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 6+ = -1
            committed_metadata string?
        }
    }
""", response="""
    throttle_time_ms int32 3+
    topics [] {
        name string
        partitions [] {
            partition_index int32
            error_code int16
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    code = _refuse(call, request)
    rows: list[dict[str, Any]] = []
    waiting: list[tuple[dict[str, Any], Ticket]] = []
    for topic in request.topics:
        topic_code = code or _refuse_topic(call, topic.name)
        stream = call.broker.topics.find(topic.name)
        partitions: list[dict[str, Any]] = []
        for asked in topic.partitions:
            row: dict[str, Any] = {"partition_index": asked.partition_index, "error_code": topic_code}
            partitions.append(row)
            if topic_code:
                continue
            if stream is None or not 0 <= asked.partition_index < len(stream.partitions):
                row["error_code"] = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif len((asked.committed_metadata or "").encode()) > call.broker.settings.offset_metadata_bytes_max:
                row["error_code"] = Code.OFFSET_METADATA_TOO_LARGE
            else:
                committed = Committed(asked.committed_offset, max(asked.committed_leader_epoch, LEADER_EPOCH),
                                      asked.committed_metadata, call.broker.router.clock_ms())
                if call.broker.groups.may_commit(request.group_id, topic.name, asked.partition_index, committed):
                    waiting.append((row, call.broker.groups.offsets.commit(
                        request.group_id, topic.name, asked.partition_index, committed)))
                else:
                    row["error_code"] = Code.INVALID_COMMIT_OFFSET_SIZE
        rows.append({"name": topic.name, "partitions": partitions})
        await call.rest()
    if waiting:
        call.broker.groups.committed(request.group_id, call.identity)
    for row, ticket in waiting:
        if (await call.durable(ticket)).refusals:
            row["error_code"] = Code.COORDINATOR_NOT_AVAILABLE
    return {"topics": rows}


def _refuse(call: Call, request: Message) -> Code:
    """Whether this may be committed at all; a member's session goes on by it."""
    groups = call.broker.groups
    code = groups.refuse_id(request.group_id)
    if code is not None:
        return code
    if not groups.may_use(call.identity, request.group_id):
        return Code.GROUP_AUTHORIZATION_FAILED
    generation = request.generation_id_or_member_epoch
    group = groups.by_id.get(request.group_id)
    if generation < 0 and not request.member_id:
        if group is None:
            opened = groups.open(request.group_id, call.identity)
            return opened if isinstance(opened, Code) else Code.NONE
        return Code.NONE if group.is_empty else Code.UNKNOWN_MEMBER_ID
    served = call.broker.consumer_groups.refuse_member(request.group_id, request.member_id, generation)
    if served is not None:
        return served
    found = groups.find(request.group_id, request.member_id, request.group_instance_id, generation)
    if isinstance(found, Code):
        return found
    if found[0].state is State.COMPLETING:
        return Code.REBALANCE_IN_PROGRESS
    groups.heartbeat(request.group_id, request.member_id, request.group_instance_id, generation)
    return Code.NONE


def _refuse_topic(call: Call, name: str) -> Code:
    topics = call.broker.topics
    stream = topics.find(name)
    if stream is None:
        return Code.UNKNOWN_TOPIC_OR_PARTITION
    if not topics.may_read(call.identity, stream):
        topics.note_denial(call.identity, stream)
        return Code.TOPIC_AUTHORIZATION_FAILED
    return Code.NONE


API = Api(SCHEMA, handle)
