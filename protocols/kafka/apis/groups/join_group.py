"""JoinGroup (11), versions 0 to 9: become a member, or say again that one is, when a group rebalances.

Answered when all members have joined or the rebalance timeout is over. From version 4 on the first join without an id
is answered with one (error 79); static members (group_instance_id) come from version 5 on; protocol_type comes back
from version 7 on; skip_assignment of version 9 tells a static leader that nothing has changed.
                                                                    Sources: KIP-62, KIP-345, KIP-394, KIP-559, KIP-814
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.member import Joining

SCHEMA = Schema(11, "JoinGroup", 0, 9, flexible=6, request="""
    group_id string
    session_timeout_ms int32
    rebalance_timeout_ms int32 1+ = -1
    member_id string
    group_instance_id string? 5+ = null
    protocol_type string
    protocols [] {
        name string
        metadata bytes
    }
    reason string? 8+ = null
""", response="""
    throttle_time_ms int32 2+
    error_code int16
    generation_id int32 = -1
    protocol_type string? 7+ = null
    protocol_name string?7+
    leader string
    skip_assignment bool 9+
    member_id string
    members [] {
        member_id string
        group_instance_id string? 5+ = null
        metadata bytes
    }
""")

FIRST_WITH_KNOWN_ID = 4


async def handle(call: Call, request: Message) -> Values:
    groups, settings = call.broker.groups, call.broker.settings
    code = groups.refuse_id(request.group_id)
    if code is not None:
        return _refused(request, code)
    if not groups.may_use(call.identity, request.group_id):
        return _refused(request, Code.GROUP_AUTHORIZATION_FAILED)
    session_ms = request.session_timeout_ms
    if not settings.session_timeout_min_ms <= session_ms <= settings.session_timeout_max_ms:
        return _refused(request, Code.INVALID_SESSION_TIMEOUT)
    rebalance_ms = request.rebalance_timeout_ms if request.rebalance_timeout_ms > 0 else session_ms
    values = await groups.join(request.group_id, Joining(
        request.member_id, request.group_instance_id, call.client_id, f"/{call.client.address.rpartition(':')[0]}",
        session_ms / 1000, min(rebalance_ms, settings.rebalance_timeout_max_ms) / 1000, request.protocol_type,
        [(protocol.name, protocol.metadata) for protocol in request.protocols],
        call.version >= FIRST_WITH_KNOWN_ID), call.identity)
    return values


def _refused(request: Message, code: Code) -> Values:
    return {"error_code": code, "member_id": request.member_id}


API = Api(SCHEMA, handle)
