"""DeleteTopics (20), versions 1 to 6: delete topics with all their records, by name or (version 6) by id.

Answered when they are gone for good. Streams of the configuration file stay (error 44).            Source: KIP-516
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.fields import ZERO_UUID
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics.changes import code_for, delete

SCHEMA = Schema(20, "DeleteTopics", 1, 6, flexible=4, request="""
    topics [] 6+ {
        name string? = null
        topic_id uuid
    }
    topic_names []string 1-5
    timeout_ms int32
""", response="""
    throttle_time_ms int32
    responses [] {
        name string?6+
        topic_id uuid 6+
        error_code int16
        error_message string? 5+ = null
    }
""")


async def handle(call: Call, request: Message) -> Values:
    asked = [(topic.name, topic.topic_id) for topic in request.topics] if call.version >= 6 \
        else [(name, ZERO_UUID) for name in request.topic_names]
    rows: list[dict[str, Any]] = []
    for name, topic_id in asked:
        rows.append(await _delete(call, name, topic_id))
        await call.rest()
    return {"responses": rows}


async def _delete(call: Call, name: str | None, topic_id: bytes) -> dict[str, Any]:
    topics = call.broker.topics
    row: dict[str, Any] = {"name": name, "topic_id": topic_id}
    stream = topics.by_id(topic_id) if name is None else topics.find(name)
    if stream is None:
        code = Code.UNKNOWN_TOPIC_ID if name is None else Code.UNKNOWN_TOPIC_OR_PARTITION
        if name is not None and not topics.may_manage(call.identity) and not topics.may_write_new(call.identity, name):
            code = Code.TOPIC_AUTHORIZATION_FAILED
        return {**row, "error_code": code, "error_message": "there is no such topic"}
    row.update(name=topics.name_of(stream), topic_id=topics.id_of(stream))
    if not topics.may_change(call.identity, stream):
        return {**row, "name": name, "error_code": Code.TOPIC_AUTHORIZATION_FAILED, "error_message": "not allowed"}
    refusal = await delete(call, stream)
    if refusal is not None:
        row.update(error_code=code_for(refusal), error_message=refusal.text)
    return row


API = Api(SCHEMA, handle)
