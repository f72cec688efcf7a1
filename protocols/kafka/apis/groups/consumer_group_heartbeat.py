"""ConsumerGroupHeartbeat (68), versions 0 and 1: a consumer joins, says what it has, hears what it may read.

With epoch 0 it joins; -1: it leaves; -2: a static member leaves and means to come back. What has not changed since the
last heartbeat is null. In version 0 the node makes the member id, from 1 on the client does. Patterns of topics come in
version 1.                                                                              Sources: KIP-848, KIP-1082
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.groups.consumer_groups import JOIN, new_member_id, refuse_subscription
from protocols.kafka.groups.consumer_member import LEFT_FOR_NOW, Subscription, id_problem

SCHEMA = Schema(68, "ConsumerGroupHeartbeat", 0, 1, flexible=0, request="""
    group_id string
    member_id string
    member_epoch int32
    instance_id string? = null
    rack_id string? = null
    rebalance_timeout_ms int32 = -1
    subscribed_topic_names []string?
    subscribed_topic_regex string? 1+ = null
    server_assignor string? = null
    topic_partitions []? {
        topic_id uuid
        partitions []int32
    }
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
    problem = "not a group id" if groups.refuse_id(request.group_id) is not None else _problem(call, request)
    if problem is not None:
        return {"error_code": Code.INVALID_REQUEST, "error_message": problem}
    if not groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED, "error_message": "another user's group"}
    for name in request.subscribed_topic_names or ():
        stream = topics.find(name)
        if stream is not None and not topics.may_read(call.identity, stream):
            topics.note_denial(call.identity, stream)
            return {"error_code": Code.TOPIC_AUTHORIZATION_FAILED, "error_message": f"not allowed to read {name}"}
    names = request.subscribed_topic_names
    said = Subscription(
        request.instance_id, request.rack_id,
        None if request.rebalance_timeout_ms < 0 else request.rebalance_timeout_ms / 1000,
        None if names is None or request.subscribed_topic_regex else frozenset(names), request.subscribed_topic_regex,
        request.server_assignor, call.client_id, f"/{call.client.address.rpartition(':')[0]}")
    refused = refuse_subscription(said)
    if refused is not None:
        return {"error_code": refused[0], "error_message": refused[1]}
    owned = None if request.topic_partitions is None else {
        (topic.topic_id, index) for topic in request.topic_partitions for index in topic.partitions}
    answer, changed = call.broker.consumer_groups.heartbeat(
        request.group_id, request.member_id or new_member_id(), request.member_epoch, said, owned, call.identity)
    if changed is not None:
        await call.durable(call.broker.consumer_groups.store(changed))
    return answer


def _problem(call: Call, request: Message) -> str | None:
    """What makes it no request at all."""
    epoch = request.member_epoch
    if not request.member_id and (call.version >= 1 or epoch != JOIN):
        return "a member id is missing"
    problem = id_problem(request.member_id, request.instance_id, request.rack_id, call.client_id)
    if problem is not None:
        return problem
    if epoch < LEFT_FOR_NOW or (epoch == LEFT_FOR_NOW and request.instance_id is None):
        return "not an epoch of a member"
    if request.instance_id == "" or request.rack_id == "":
        return "an instance id and a rack are null or have characters"
    if epoch == JOIN and (request.rebalance_timeout_ms < 0 or request.topic_partitions is None
                          or len(request.topic_partitions) > 0):
        return "who joins says a rebalance timeout, and has no partitions"
    if epoch == JOIN and request.subscribed_topic_names is None and not request.subscribed_topic_regex:
        return "who joins says what it reads"
    return None


API = Api(SCHEMA, handle)
