"""DeleteGroups (42), versions 0 to 2: forget groups that have no members, and their offsets.        Source: KIP-229"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(42, "DeleteGroups", 0, 2, flexible=2, request="""
    groups_names []string
""", response="""
    throttle_time_ms int32
    results [] {
        group_id string
        error_code int16
    }
""")


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for group_id in request.groups_names:
        rows.append({"group_id": group_id, "error_code": await _delete(call, group_id)})
        await call.rest()
    return {"results": rows}


async def _delete(call: Call, group_id: str) -> Code:
    groups = call.broker.groups
    if not groups.may_change(call.identity, group_id):
        return Code.GROUP_AUTHORIZATION_FAILED
    code, ticket = groups.delete(group_id)
    if ticket is not None and (await call.durable(ticket)).refusals:
        return Code.COORDINATOR_NOT_AVAILABLE
    return code


API = Api(SCHEMA, handle)
