"""DeleteRecords (21), versions 0 to 2: records before an offset go; -1 stands for the end. Durable when answered.
                                                                                                    Source: KIP-107
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.log.trimming import trim
from routing.rights.policy import Action

SCHEMA = Schema(21, "DeleteRecords", 0, 2, flexible=2, request="""
    topics [] {
        name string
        partitions [] {
            partition_index int32
            offset int64
        }
    }
    timeout_ms int32
""", response="""
    throttle_time_ms int32
    topics [] {
        name string
        partitions [] {
            partition_index int32
            low_watermark int64
            error_code int16
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    topics: list[dict[str, Any]] = []
    for topic in request.topics:
        rows: list[dict[str, Any]] = []
        for part in topic.partitions:
            rows.append({"partition_index": part.partition_index, "low_watermark": -1,
                         **await _trim(call, topic.name, part.partition_index, part.offset)})
            await call.rest()
        topics.append({"name": topic.name, "partitions": rows})
    return {"topics": topics}


async def _trim(call: Call, name: str, index: int, offset: int) -> dict[str, Any]:
    topics = call.broker.topics
    stream = topics.find(name)
    if stream is None or not 0 <= index < len(stream.partitions):
        return {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION}
    if not (topics.may(call.identity, Action.OPERATE) or topics.owns(call.identity, stream)):
        return {"error_code": Code.TOPIC_AUTHORIZATION_FAILED}
    outcome = await trim(call, stream.partitions[index], offset)
    return {"error_code": outcome} if isinstance(outcome, Code) else {"low_watermark": outcome[0]}


API = Api(SCHEMA, handle)
