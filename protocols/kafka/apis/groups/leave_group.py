"""LeaveGroup (13), versions 0 to 5: a member goes; from version 3 on several, and static ones by their instance ids.
                                                                                            Sources: KIP-345, KIP-800
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(13, "LeaveGroup", 0, 5, flexible=4, request="""
    group_id string
    members [] 3+ {
        member_id string
        group_instance_id string? = null
        reason string? 5+ = null
    }
    member_id string 0-2
""", response="""
    throttle_time_ms int32 1+
    error_code int16
    members [] 3+ {
        member_id string
        group_instance_id string?
        error_code int16
    }
""")


async def handle(call: Call, request: Message) -> Values:
    groups = call.broker.groups
    if not groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    if call.version < 3:
        return {"error_code": groups.leave(request.group_id, request.member_id, None)}
    if request.group_id not in groups.by_id:
        return {"error_code": Code.UNKNOWN_MEMBER_ID}
    rows: list[dict[str, Any]] = []
    for member in request.members:
        rows.append({
            "member_id": member.member_id, "group_instance_id": member.group_instance_id,
            "error_code": groups.leave(request.group_id, member.member_id, member.group_instance_id)})
        await call.rest()
    return {"members": rows}


API = Api(SCHEMA, handle)
