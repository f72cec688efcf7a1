"""ConsumerGroupDescribe (69), versions 0 and 1: members, assignments and targets of consumer groups.

A group of the classic kind, or none, is error 69: Admin asks DescribeGroups then.                  Source: KIP-848
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import group_operations
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.assignors import Partitions
from protocols.kafka.groups.consumer_group import ConsumerGroup
from protocols.kafka.groups.consumer_groups import by_topic

SCHEMA = Schema(69, "ConsumerGroupDescribe", 0, 1, flexible=0, request="""
    group_ids []string
    include_authorized_operations bool
""", response="""
    throttle_time_ms int32
    groups [] {
        error_code int16
        error_message string? = null
        group_id string
        group_state string
        group_epoch int32
        assignment_epoch int32
        assignor_name string
        members [] {
            member_id string
            instance_id string? = null
            rack_id string? = null
            member_epoch int32
            client_id string
            client_host string
            subscribed_topic_names []string
            subscribed_topic_regex string? = null
            assignment {
                topic_partitions [] {
                    topic_id uuid
                    topic_name string
                    partitions []int32
                }
            }
            target_assignment {
                topic_partitions [] {
                    topic_id uuid
                    topic_name string
                    partitions []int32
                }
            }
            member_type int8 1+ = -1
        }
        authorized_operations int32 = -2147483648
    }
""")

CONSUMER = 1


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for group_id in dict.fromkeys(request.group_ids):       # each once, however often it is named
        row = {"group_id": group_id, **_describe(call, group_id)}
        if request.include_authorized_operations and not row.get("error_code"):
            row["authorized_operations"] = group_operations(call)
        rows.append(row)
        await call.rest()
    return {"groups": rows}


def _describe(call: Call, group_id: str) -> dict[str, Any]:
    if not call.broker.groups.may_see(call.identity, group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    found = call.broker.consumer_groups.find(group_id)
    if found is None:
        return {"error_code": Code.GROUP_ID_NOT_FOUND, "error_message": f"Group {group_id} is not a consumer group."}
    members = [
        {"member_id": member.member_id, "instance_id": member.instance_id, "rack_id": member.rack_id,
         "member_epoch": member.epoch, "client_id": member.client_id, "client_host": member.client_host,
         "subscribed_topic_names": sorted(member.topics), "subscribed_topic_regex": member.pattern or None,
         "assignment": _named(found, member.assigned),
         "target_assignment": _named(found, found.target.get(member.member_id, set())), "member_type": CONSUMER}
        for member in found.members.values()]
    return {"group_state": found.state.value, "group_epoch": found.epoch, "assignment_epoch": found.epoch,
            "assignor_name": found.assignor, "members": members}


def _named(found: ConsumerGroup, places: Partitions) -> dict[str, Any]:
    return {"topic_partitions": [
        {**row, "topic_name": found.names[row["topic_id"]]}
        for row in by_topic(places) if row["topic_id"] in found.names]}


API = Api(SCHEMA, handle)
