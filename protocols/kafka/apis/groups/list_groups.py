"""ListGroups (16), versions 0 to 5: the groups that the user may see, of some states or types.
                                                                                    Sources: KIP-518, KIP-848
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(16, "ListGroups", 0, 5, flexible=3, request="""
    states_filter []string 4+
    types_filter []string 5+
""", response="""
    throttle_time_ms int32 1+
    error_code int16
    groups [] {
        group_id string
        protocol_type string
        group_state string 4+
        group_type string 5+
    }
""")


async def handle(call: Call, request: Message) -> Values:
    groups = call.broker.groups
    states = {state.lower() for state in request.states_filter}
    types = {type.lower() for type in request.types_filter}
    rows: list[dict[str, Any]] = []
    for group_id, group in list(groups.by_id.items()) if call.broker.cluster.leads else ():      # those are its own
        type, state, protocol = group.shown
        if (not states or state.lower() in states) and (not types or type in types) and groups.may_see(
                call.identity, group_id):
            rows.append({"group_id": group_id, "protocol_type": protocol, "group_state": state, "group_type": type})
        await call.rest()
    return {"groups": rows}


API = Api(SCHEMA, handle)
