"""DescribeGroups (15), versions 0 to 6: members and assignments of groups.

One that is not there is Dead; from version 6 on it is error 69.                    Sources: KIP-430, KIP-1043
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import group_operations
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.group import CLASSIC, Group, State

SCHEMA = Schema(15, "DescribeGroups", 0, 6, flexible=5, request="""
    groups []string
    include_authorized_operations bool 3+
""", response="""
    throttle_time_ms int32 1+
    groups [] {
        error_code int16
        error_message string? 6+ = null
        group_id string
        group_state string
        protocol_type string
        protocol_data string
        members [] {
            member_id string
            group_instance_id string? 4+ = null
            client_id string
            client_host string
            member_metadata bytes
            member_assignment bytes
        }
        authorized_operations int32 3+ = -2147483648
    }
""")


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for group_id in dict.fromkeys(request.groups):          # each once, however often it is named
        row = _describe(call, group_id)
        if request.include_authorized_operations and not row.get("error_code"):
            row["authorized_operations"] = group_operations(call)
        rows.append({"group_id": group_id, **row})
        await call.rest()
    return {"groups": rows}


def _describe(call: Call, group_id: str) -> dict[str, Any]:
    groups = call.broker.groups
    if not groups.may_see(call.identity, group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    group = groups.by_id.get(group_id)
    if group is not None and group.shown[0] == CLASSIC:
        return {"group_state": group.state.value, "protocol_type": group.protocol_type,
                "protocol_data": group.protocol if group.state is State.STABLE else "", "members": _members(group)}
    if call.version >= 6:
        return {"error_code": Code.GROUP_ID_NOT_FOUND, "error_message": f"Group {group_id} not found.",
                "group_state": "Dead"}
    return {"group_state": "Dead"}


def _members(group: Group) -> list[dict[str, Any]]:
    stable = group.state is State.STABLE
    return [
        {"member_id": member.member_id, "group_instance_id": member.instance_id, "client_id": member.client_id,
         "client_host": member.client_host,
         "member_metadata": member.metadata(group.protocol) if stable else b"",
         "member_assignment": member.assignment}
        for member in group.members.values()]


API = Api(SCHEMA, handle)
