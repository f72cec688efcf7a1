"""Heartbeat (12), versions 0 to 4: a member is there; it hears whether it has to join again (error 27)."""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(12, "Heartbeat", 0, 4, flexible=4, request="""
    group_id string
    generation_id int32
    member_id string
    group_instance_id string? 3+ = null
""", response="""
    throttle_time_ms int32 1+
    error_code int16
""")


async def handle(call: Call, request: Message) -> Values:
    groups = call.broker.groups
    if not groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    return {"error_code": groups.heartbeat(
        request.group_id, request.member_id, request.group_instance_id, request.generation_id)}


API = Api(SCHEMA, handle)
