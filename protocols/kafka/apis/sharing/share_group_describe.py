"""ShareGroupDescribe (77), version 1: members of share groups, and what they may take from.          Source: KIP-932"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import group_operations
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.consumer_groups import by_topic
from protocols.kafka.sharing.groups import not_shared

SCHEMA = Schema(77, "ShareGroupDescribe", 1, 1, flexible=0, request="""
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
            rack_id string? = null
            member_epoch int32
            client_id string
            client_host string
            subscribed_topic_names []string
            assignment {
                topic_partitions [] {
                    topic_id uuid
                    topic_name string
                    partitions []int32
                }
            }
        }
        authorized_operations int32 = -2147483648
    }
""")

ASSIGNOR = "all"            # every member, every partition of its topics


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for group_id in dict.fromkeys(request.group_ids):      # each once, however often it is named
        row = {"group_id": group_id, **await _describe(call, group_id)}
        if request.include_authorized_operations and not row.get("error_code"):
            row["authorized_operations"] = group_operations(call)
        rows.append(row)
        await call.rest()
    return {"groups": rows}


async def _describe(call: Call, group_id: str) -> Values:
    if not call.broker.groups.may_see(call.identity, group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    found = call.broker.share_groups.find(group_id)
    if found is None:
        return not_shared(group_id)
    rows: list[dict[str, Any]] = []
    for member in list(found.members.values()):
        rows.append({
            "member_id": member.member_id, "rack_id": member.rack_id, "member_epoch": member.epoch,
            "client_id": member.client_id, "client_host": member.client_host,
            "subscribed_topic_names": sorted(member.topics),
            "assignment": {"topic_partitions": [
                {**row, "topic_name": stream.name} for row in by_topic(member.places)
                if (stream := call.broker.topics.by_id(row["topic_id"])) is not None]}})
        await call.rest()
    return {"group_state": found.state, "group_epoch": found.epoch, "assignment_epoch": found.epoch,
            "assignor_name": ASSIGNOR, "members": rows}


API = Api(SCHEMA, handle)
