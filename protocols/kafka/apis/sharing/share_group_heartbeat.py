"""ShareGroupHeartbeat (76), version 1: a member of a share group is alive, says what it reads, and learns where from.

Epoch 0 joins, -1 leaves; the client makes the member id. What does not change is null.               Source: KIP-932
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.consumer_groups import JOIN, LEAVE
from protocols.kafka.groups.consumer_member import id_problem
from protocols.kafka.sharing.groups import Said

SCHEMA = Schema(76, "ShareGroupHeartbeat", 1, 1, flexible=0, request="""
    group_id string
    member_id string
    member_epoch int32
    rack_id string? = null
    subscribed_topic_names []string?
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string? = null
    member_id string? = null
    member_epoch int32
    heartbeat_interval_ms int32
    assignment ? {
        topic_partitions [] {
            topic_id uuid
            partitions []int32
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    groups, topics = call.broker.groups, call.broker.topics
    names = request.subscribed_topic_names
    if groups.refuse_id(request.group_id) is not None or not request.member_id or request.member_epoch < LEAVE:
        return {"error_code": Code.INVALID_REQUEST, "error_message": "not a group id, a member id or an epoch"}
    problem = id_problem(request.member_id, request.rack_id, call.client_id)
    if problem is not None:
        return {"error_code": Code.INVALID_REQUEST, "error_message": problem}
    if request.member_epoch == JOIN and not names:
        return {"error_code": Code.INVALID_REQUEST, "error_message": "who joins says what it reads"}
    if not groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED, "error_message": "another user's group"}
    for name in names or ():
        stream = topics.find(name)
        if stream is not None and not topics.may_read(call.identity, stream):
            topics.note_denial(call.identity, stream)
            return {"error_code": Code.TOPIC_AUTHORIZATION_FAILED, "error_message": f"not allowed to read {name}"}
    said = Said(None if names is None else frozenset(names), request.rack_id, call.client_id,
                f"/{call.client.address.rpartition(':')[0]}")
    answer, tickets = call.broker.share_groups.heartbeat(
        request.group_id, request.member_id, request.member_epoch, said, call.identity)
    for ticket in tickets:
        if (await call.durable(ticket)).refusals:
            return {"error_code": Code.COORDINATOR_NOT_AVAILABLE, "error_message": "it could not be stored"}
    return answer


API = Api(SCHEMA, handle)
