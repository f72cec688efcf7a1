"""CreatePartitions (37), versions 0 to 3: give a topic more partitions. Their number never gets smaller.
                                                                                                    Source: KIP-195
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics.changes import code_for, grow

SCHEMA = Schema(37, "CreatePartitions", 0, 3, flexible=2, request="""
    topics [] {
        name string
        count int32
        assignments []? {
            broker_ids []int32
        }
    }
    timeout_ms int32
    validate_only bool
""", response="""
    throttle_time_ms int32
    results [] {
        name string
        error_code int16
        error_message string? = null
    }
""")


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for topic in request.topics:
        rows.append({"name": topic.name, **await _grow(call, topic, validate_only=request.validate_only)})
        await call.rest()
    return {"results": rows}


async def _grow(call: Call, topic: Message, *, validate_only: bool) -> dict[str, Any]:
    topics = call.broker.topics
    stream = topics.find(topic.name)
    if stream is None:
        return _refused(Code.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
    if not topics.may_change(call.identity, stream):
        return _refused(Code.TOPIC_AUTHORIZATION_FAILED, "not allowed")
    now = len(stream.partitions)
    if topic.count <= now:
        return _refused(Code.INVALID_PARTITIONS, f"Topic currently has {now} partitions, which is "
                        f"{'already the requested number' if topic.count == now else 'higher than requested'}.")
    if topic.assignments is not None and len(topic.assignments) != topic.count - now:
        return _refused(Code.INVALID_REPLICA_ASSIGNMENT, f"{topic.count - now} assignments, or none")
    refusal = await grow(call, stream, topic.count, validate_only=validate_only)
    return {} if refusal is None else _refused(code_for(refusal), refusal.text)


def _refused(code: Code, text: str) -> dict[str, Any]:
    return {"error_code": code, "error_message": text}


API = Api(SCHEMA, handle)
