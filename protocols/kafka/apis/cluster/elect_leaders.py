"""ElectLeaders (43), versions 0 to 2: the one broker leads everything already (error 84).            Source: KIP-460"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(43, "ElectLeaders", 0, 2, flexible=2, request="""
    election_type int8 1+
    topic_partitions []? {
        topic string
        partitions []int32
    }
    timeout_ms int32 = 60000
""", response="""
    throttle_time_ms int32
    error_code int16 1+
    replica_election_results [] {
        topic string
        partition_result [] {
            partition_id int32
            error_code int16
            error_message string?
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    if not call.broker.topics.may_manage(call.identity):
        return {"error_code": Code.CLUSTER_AUTHORIZATION_FAILED}
    results: list[dict[str, Any]] = []
    for asked in request.topic_partitions or ():
        stream = call.broker.topics.find(asked.topic)
        results.append({"topic": asked.topic, "partition_result": [
            {"partition_id": index, "error_code": Code.ELECTION_NOT_NEEDED
                if stream is not None and 0 <= index < len(stream.partitions) else Code.UNKNOWN_TOPIC_OR_PARTITION}
            for index in asked.partitions]})
    return {"replica_election_results": results}


API = Api(SCHEMA, handle)
