"""CreateTopics (19), versions 2 to 7: make topics. Answered when they are durable, with all their configurations.

Replication: a node is one broker. kafka.replication_factor = "clamp" takes any factor and has one copy, "refuse" takes
1 and -1 only (error 38). An assignment of partitions to brokers gives their number.       Sources: KIP-464, 525, 516
"""
from __future__ import annotations

from collections import Counter
from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics import configs
from protocols.kafka.topics.changes import code_for, create, settings_for
from protocols.kafka.topics.names import name_problem
from routing.errors import Refusal

SCHEMA = Schema(19, "CreateTopics", 2, 7, flexible=5, request="""
    topics [] {
        name string
        num_partitions int32
        replication_factor int16
        assignments [] {
            partition_index int32
            broker_ids []int32
        }
        configs [] {
            name string
            value string?
        }
    }
    timeout_ms int32 = 60000
    validate_only bool
""", response="""
    throttle_time_ms int32
    topics [] {
        name string
        topic_id uuid 7+
        error_code int16
        error_message string?
        topic_config_error_code int16 5+ tag=0
        num_partitions int32 5+ = -1
        replication_factor int16 5+ = -1
        configs []? 5+ {
            name string
            value string?
            read_only bool
            config_source int8 = -1
            is_sensitive bool
        }
    }
""")

ONE, DEFAULT = 1, -1


async def handle(call: Call, request: Message) -> Values:
    names = Counter(topic.name for topic in request.topics)
    rows: list[dict[str, Any]] = []
    for topic in request.topics:
        if names[topic.name] > 1:
            rows.append(_refused(topic, Code.INVALID_REQUEST, "the topic is named twice"))
        else:
            rows.append(await _create(call, topic, validate_only=request.validate_only))
        await call.rest()
    return {"topics": rows}


async def _create(call: Call, topic: Message, *, validate_only: bool) -> dict[str, Any]:
    topics, limits = call.broker.topics, call.broker.settings
    problem = name_problem(topic.name)
    if problem is not None:
        return _refused(topic, Code.INVALID_TOPIC_EXCEPTION, problem)
    if not topics.may_create(call.identity, topic.name):
        return _refused(topic, Code.TOPIC_AUTHORIZATION_FAILED, f"user {call.identity.user} may not make this topic")
    if topics.find(topic.name) is not None:
        return _refused(topic, Code.TOPIC_ALREADY_EXISTS, f"Topic '{topic.name}' already exists.")
    count = topic.num_partitions
    if topic.assignments:
        indexes = sorted(assignment.partition_index for assignment in topic.assignments)
        if indexes != list(range(len(indexes))):
            return _refused(topic, Code.INVALID_REPLICA_ASSIGNMENT, "partitions count from 0 without gaps")
        count = len(indexes)
    elif topic.replication_factor not in (ONE, DEFAULT):
        if topic.replication_factor < 1:
            return _refused(topic, Code.INVALID_REPLICATION_FACTOR, "a replication factor is 1 or more, or -1")
        if limits.replication_factor == "refuse":
            return _refused(topic, Code.INVALID_REPLICATION_FACTOR, "this node is one broker: 1 or -1")
    if count == DEFAULT:
        count = limits.default_partitions
    if count < 1:
        return _refused(topic, Code.INVALID_PARTITIONS, "a topic has 1 partition or more")
    try:
        settings = settings_for(topic.name, count, {entry.name: entry.value for entry in topic.configs})
    except configs.ConfigError as error:
        return _refused(topic, Code.INVALID_CONFIG, str(error))
    made = await create(call, settings, validate_only=validate_only)
    if isinstance(made, Refusal):
        return _refused(topic, code_for(made), made.text)
    return {"name": topic.name, "topic_id": made, "num_partitions": count, "replication_factor": ONE,
            "configs": configs.rows(settings)}


def _refused(topic: Message, code: Code, text: str) -> dict[str, Any]:
    return {"name": topic.name, "error_code": code, "error_message": text, "configs": []}


API = Api(SCHEMA, handle)
