"""TxnOffsetCommit (28), versions 0 to 4: offsets of a group that count when the transaction commits, all with it.

From version 3 on the member and its generation are named, so that one that was thrown out is fenced (KIP-447).
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import LEADER_EPOCH
from protocols.kafka.apis.transactions.rights import code_of_transaction, may_use
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.offsets import Committed

SCHEMA = Schema(28, "TxnOffsetCommit", 0, 4, flexible=3, request="""
    transactional_id string
    group_id string
    producer_id int64
    producer_epoch int16
    generation_id int32 3+ = -1
    member_id string 3+
    group_instance_id string? 3+ = null
    topics [] {
        name string
        partitions [] {
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 2+ = -1
            committed_metadata string?
        }
    }
""", response="""
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
    groups, topics = call.broker.groups, call.broker.topics
    code = _refuse(call, request)
    wrong: dict[tuple[str, int], Code] = {}
    records: dict[str, bytes] = {}
    for topic in request.topics:
        stream = topics.find(topic.name)
        for part in topic.partitions:
            place = topic.name, part.partition_index
            if stream is None or not 0 <= part.partition_index < len(stream.partitions):
                wrong[place] = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif not topics.may_read(call.identity, stream):
                wrong[place] = Code.TOPIC_AUTHORIZATION_FAILED
            elif len((part.committed_metadata or "").encode()) > call.broker.settings.offset_metadata_bytes_max:
                wrong[place] = Code.OFFSET_METADATA_TOO_LARGE
            else:
                committed = Committed(part.committed_offset, max(part.committed_leader_epoch, LEADER_EPOCH),
                                      part.committed_metadata, call.broker.router.clock_ms())
                if groups.may_commit(request.group_id, *place, committed):
                    records.update(groups.offsets.record(request.group_id, *place, committed))
                else:
                    wrong[place] = Code.INVALID_COMMIT_OFFSET_SIZE
        await call.rest()
    if not code and records:
        ticket = call.broker.router.transactions.add_state(
            request.transactional_id, request.producer_id, request.producer_epoch, records)
        refusal = (await call.durable(ticket)).refusals.get(0)
        if refusal is None:
            groups.expect(request.group_id, call.identity)
        else:
            code = code_of_transaction(refusal)
    rows: list[dict[str, Any]] = [
        {"name": topic.name, "partitions": [
            {"partition_index": part.partition_index,
             "error_code": code or wrong.get((topic.name, part.partition_index), Code.NONE)}
            for part in topic.partitions]}
        for topic in request.topics]
    return {"topics": rows}


def _refuse(call: Call, request: Message) -> Code:
    groups = call.broker.groups
    code = groups.refuse_id(request.group_id)
    if code is not None:
        return code
    if not may_use(call, request.transactional_id):
        return Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    if not groups.may_use(call.identity, request.group_id):
        return Code.GROUP_AUTHORIZATION_FAILED
    if request.generation_id < 0 and not request.member_id:         # the producer knows of no group
        opened = groups.open(request.group_id, call.identity)
        return opened if isinstance(opened, Code) else Code.NONE
    served = call.broker.consumer_groups.refuse_member(request.group_id, request.member_id, request.generation_id)
    if served is not None:
        return Code.ILLEGAL_GENERATION if served is Code.STALE_MEMBER_EPOCH else served
    found = groups.find(request.group_id, request.member_id, request.group_instance_id, request.generation_id)
    return found if isinstance(found, Code) else Code.NONE


API = Api(SCHEMA, handle)
