"""SyncGroup (14), versions 0 to 5: the leader hands in the assignments, every member takes its own.

Answered when the leader has done so and the group is stored: its members go on after a crash.    Source: KIP-559
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(14, "SyncGroup", 0, 5, flexible=4, request="""
    group_id string
    generation_id int32
    member_id string
    group_instance_id string? 3+ = null
    protocol_type string? 5+ = null
    protocol_name string? 5+ = null
    assignments [] {
        member_id string
        assignment bytes
    }
""", response="""
    throttle_time_ms int32 1+
    error_code int16
    protocol_type string? 5+ = null
    protocol_name string? 5+ = null
    assignment bytes
""")


async def handle(call: Call, request: Message) -> Values:
    groups = call.broker.groups
    if not groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    return await groups.sync(
        request.group_id, request.member_id, request.group_instance_id, request.generation_id,
        (request.protocol_type, request.protocol_name),
        [(entry.member_id, entry.assignment) for entry in request.assignments])


API = Api(SCHEMA, handle)
