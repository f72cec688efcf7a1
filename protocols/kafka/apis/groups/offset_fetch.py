"""OffsetFetch (9), versions 1 to 9: how far a group has read; from version 8 on of several groups in one request.

With require_stable an offset whose successor waits for the end of a transaction is error 88: who reads on behind a
producer that is gone would else read twice. Of a partition without an offset it says -1, which is no error. Only topics
that the user may read are told of.
                                                                                Sources: KIP-447, KIP-709, KIP-848
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.offsets import Committed

SCHEMA = Schema(9, "OffsetFetch", 1, 9, flexible=6, request="""
    groups [] 8+ {
        group_id string
        member_id string? 9+ = null
        member_epoch int32 9+ = -1
        topics []? {
            name string 8-9
            partition_indexes []int32
        }
    }
    group_id string 1-7
    topics []?2+ 1-7 {
        name string
        partition_indexes []int32
    }
    require_stable bool 7+
""", response="""
    throttle_time_ms int32 3+
    groups [] 8+ {
        group_id string
        topics [] {
            name string 8-9
            partitions [] {
                partition_index int32
                committed_offset int64
                committed_leader_epoch int32 = -1
                metadata string?
                error_code int16
            }
        }
        error_code int16
    }
    topics [] 1-7 {
        name string
        partitions [] {
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 5+ = -1
            metadata string?
            error_code int16
        }
    }
    error_code int16 2-7
""")


async def handle(call: Call, request: Message) -> Values:
    unsettled = call.broker.groups.offsets.unsettled() if request.require_stable else set()
    if call.version < 8:
        topics, code = await _of_group(call, request.group_id, request.topics, unsettled)
        return {"topics": topics, "error_code": code}
    groups: list[dict[str, Any]] = []
    for group in {group.group_id: group for group in request.groups}.values():      # each once
        refused = None
        if group.member_epoch >= 0 and group.member_id:         # KIP-848
            refused = call.broker.consumer_groups.refuse_member(group.group_id, group.member_id, group.member_epoch)
        if refused:
            groups.append({"group_id": group.group_id, "topics": [], "error_code": refused})
            continue
        topics, code = await _of_group(call, group.group_id, group.topics, unsettled)
        groups.append({"group_id": group.group_id, "topics": topics, "error_code": code})
    return {"groups": groups}


async def _of_group(call: Call, group_id: str, asked: list[Message] | None, unsettled: set[tuple[str, str, int]]
                    ) -> tuple[list[dict[str, Any]], Code]:
    groups = call.broker.groups
    if not (groups.may_use(call.identity, group_id) or groups.may_see(call.identity, group_id)):
        return [], Code.GROUP_AUTHORIZATION_FAILED
    rows: dict[str, list[dict[str, Any]]] = {}
    if asked is None:
        for topic, partition, committed in list(groups.offsets.of(group_id)):
            if topic in rows or _may_read(call, topic):
                rows.setdefault(topic, []).append(_row(partition, committed))
            await call.rest()
    else:
        for entry in asked:
            readable = _may_read(call, entry.name)
            rows.setdefault(entry.name, []).extend(
                _row(index, groups.offsets.get(group_id, entry.name, index)) if readable
                else {**_row(index, None), "error_code": Code.TOPIC_AUTHORIZATION_FAILED}
                for index in entry.partition_indexes)
            await call.rest()
    for name, partitions in rows.items():
        for row in partitions if unsettled else ():
            if (group_id, name, row["partition_index"]) in unsettled and not row["error_code"]:
                row["error_code"] = Code.UNSTABLE_OFFSET_COMMIT         # the client asks again
    return [{"name": name, "partitions": partitions} for name, partitions in rows.items()], Code.NONE


def _may_read(call: Call, topic: str) -> bool:
    stream = call.broker.topics.find(topic)
    return stream is None or call.broker.topics.may_read(call.identity, stream)


def _row(partition: int, committed: Committed | None) -> dict[str, Any]:
    if committed is None:
        return {"partition_index": partition, "committed_offset": -1, "metadata": "", "error_code": Code.NONE}
    return {"partition_index": partition, "committed_offset": committed.offset,
            "committed_leader_epoch": committed.epoch, "metadata": committed.metadata or "", "error_code": Code.NONE}


API = Api(SCHEMA, handle)
