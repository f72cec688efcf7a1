"""DescribeCluster (60), versions 0 to 2: the one broker.                            Sources: KIP-700, KIP-919"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import brokers, cluster_operations
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(60, "DescribeCluster", 0, 2, flexible=0, request="""
    include_cluster_authorized_operations bool
    endpoint_type int8 1+ = 1
    include_fenced_brokers bool 2+
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string? = null
    endpoint_type int8 1+ = 1
    cluster_id string
    controller_id int32 = -1
    brokers [] {
        broker_id int32
        host string
        port int32
        rack string? = null
        is_fenced bool 2+
    }
    cluster_authorized_operations int32 = -2147483648
""")

BROKERS = 1
UNSUPPORTED_ENDPOINT_TYPE = 115


async def handle(call: Call, request: Message) -> Values:
    if request.endpoint_type != BROKERS:
        return {"error_code": UNSUPPORTED_ENDPOINT_TYPE, "error_message": "a node has no controllers to speak to"}
    answer: dict[str, Any] = {
        "error_code": Code.NONE, "endpoint_type": BROKERS, "cluster_id": call.broker.cluster_id,
        "controller_id": call.broker.cluster.leader_id, "brokers": brokers(call)}
    if request.include_cluster_authorized_operations:
        answer["cluster_authorized_operations"] = cluster_operations(call)
    return answer


API = Api(SCHEMA, handle)
