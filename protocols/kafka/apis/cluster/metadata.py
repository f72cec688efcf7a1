"""Metadata (3), versions 0 to 13: the one broker, and topics with their partitions.

Topics that may neither be read nor written are left out of the list of all, and are an error when they are named. A
named topic that is not there is made, if the client and the settings want it and the user may publish to it.
                                                                                Sources: KIP-204, KIP-430, KIP-516
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import brokers, cluster_operations, partitions, topic_operations
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.fields import ZERO_UUID
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics.changes import create, settings_for
from protocols.kafka.topics.names import name_problem
from routing.errors import Refusal
from routing.streams.streams import Stream

SCHEMA = Schema(3, "Metadata", 0, 13, flexible=9, request="""
    topics []?1+ {
        topic_id uuid 10+
        name string?10+
    }
    allow_auto_topic_creation bool 4+ = 1
    include_cluster_authorized_operations bool 8-10
    include_topic_authorized_operations bool 8+
""", response="""
    throttle_time_ms int32 3+
    brokers [] {
        node_id int32
        host string
        port int32
        rack string? 1+ = null
    }
    cluster_id string? 2+ = null
    controller_id int32 1+ = -1
    topics [] {
        error_code int16
        name string?12+
        topic_id uuid 10+
        is_internal bool 1+
        partitions [] {
            error_code int16
            partition_index int32
            leader_id int32
            leader_epoch int32 7+ = -1
            replica_nodes []int32
            isr_nodes []int32
            offline_replicas []int32 5+
        }
        topic_authorized_operations int32 8+ = -2147483648
    }
    error_code int16 13+
    cluster_authorized_operations int32 8-10 = -2147483648
""")


async def handle(call: Call, request: Message) -> Values:
    topics = call.broker.topics
    rows: list[dict[str, Any]] = []
    if request.topics is None or (call.version == 0 and not request.topics):
        for stream in list(topics):
            if topics.may_describe(call.identity, stream):
                rows.append(_row(call, request, stream))
                await call.rest()
    else:
        for name, topic_id in dict.fromkeys((asked.name, asked.topic_id) for asked in request.topics):     # each once
            rows.append(await _named(call, request, name, topic_id))
            await call.rest()
    answer: dict[str, Any] = {
        "brokers": brokers(call), "cluster_id": call.broker.cluster_id,
        "controller_id": call.broker.cluster.leader_id, "topics": rows}
    if request.include_cluster_authorized_operations:
        answer["cluster_authorized_operations"] = cluster_operations(call)
    return answer


async def _named(call: Call, request: Message, name: str | None, topic_id: bytes) -> dict[str, Any]:
    topics = call.broker.topics
    if not name and topic_id != ZERO_UUID:                  # Java says "" beside an id, not null
        stream = topics.by_id(topic_id)
        if stream is None or not topics.may_describe(call.identity, stream):
            return {"error_code": Code.UNKNOWN_TOPIC_ID, "name": None, "topic_id": topic_id}
        return _row(call, request, stream)
    if name is None or name_problem(name) is not None:
        return {"error_code": Code.INVALID_TOPIC_EXCEPTION, "name": name, "topic_id": ZERO_UUID}
    stream = topics.find(name)
    if stream is None:
        return await _missing(call, request, name)
    if not topics.may_describe(call.identity, stream):
        topics.note_denial(call.identity, stream)
        return {"error_code": Code.TOPIC_AUTHORIZATION_FAILED, "name": name, "topic_id": ZERO_UUID}
    return _row(call, request, stream)


async def _missing(call: Call, request: Message, name: str) -> dict[str, Any]:
    """A topic that is not there. Whether it is must not be told to whom it does not concern."""
    topics = call.broker.topics
    row = {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION, "name": name, "topic_id": ZERO_UUID}
    if not topics.may_write_new(call.identity, name):
        return row if topics.may_manage(call.identity) else {**row, "error_code": Code.TOPIC_AUTHORIZATION_FAILED}
    if not (request.allow_auto_topic_creation and call.broker.settings.auto_create_topics):
        return row
    if not call.broker.cluster.leads:                       # the one that does makes it
        call.broker.cluster.have_made(name, call.identity.user)
        return {**row, "error_code": Code.LEADER_NOT_AVAILABLE}
    made = await create(call, settings_for(name, call.broker.settings.default_partitions, {}))
    stream = topics.find(name)
    if isinstance(made, Refusal) or stream is None:
        return row
    return _row(call, request, stream)


def _row(call: Call, request: Message, stream: Stream) -> dict[str, Any]:
    topics = call.broker.topics
    row: dict[str, Any] = {
        "name": topics.name_of(stream), "topic_id": topics.id_of(stream), "partitions": partitions(call, stream)}
    if request.include_topic_authorized_operations:
        row["topic_authorized_operations"] = topic_operations(call, stream)
    return row


API = Api(SCHEMA, handle)
