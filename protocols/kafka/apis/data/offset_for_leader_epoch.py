"""OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch of a leader ended.

A node leads its partitions always and alone, in epoch 0: its end is the end of the log.            Source: KIP-320
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import LEADER_EPOCH
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.log import fetching
from routing.streams.streams import Stream

SCHEMA = Schema(23, "OffsetForLeaderEpoch", 2, 4, flexible=4, request="""
    replica_id int32 3+ = -2
    topics [] {
        topic string
        partitions [] {
            partition int32
            current_leader_epoch int32 = -1
            leader_epoch int32
        }
    }
""", response="""
    throttle_time_ms int32
    topics [] {
        topic string
        partitions [] {
            error_code int16
            partition int32
            leader_epoch int32 = -1
            end_offset int64 = -1
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    topics: list[dict[str, Any]] = []
    for asked in request.topics:
        stream = call.broker.topics.find(asked.topic)
        topics.append({"topic": asked.topic, "partitions": [
            {"partition": place.partition, **_end(call, stream, place)} for place in asked.partitions]})
        await call.rest()
    return {"topics": topics}


def _end(call: Call, stream: Stream | None, place: Message) -> dict[str, Any]:
    if stream is None or not 0 <= place.partition < len(stream.partitions):
        return {"error_code": Code.UNKNOWN_TOPIC_OR_PARTITION}
    if not call.broker.topics.may_read(call.identity, stream):
        return {"error_code": Code.TOPIC_AUTHORIZATION_FAILED}
    if place.current_leader_epoch > LEADER_EPOCH or place.leader_epoch > LEADER_EPOCH:
        return {"error_code": Code.UNKNOWN_LEADER_EPOCH}
    if place.leader_epoch < LEADER_EPOCH:
        return {}
    return {"leader_epoch": LEADER_EPOCH, "end_offset": fetching.high_watermark(stream.partitions[place.partition])}


API = Api(SCHEMA, handle)
