"""FindCoordinator (10), versions 0 to 6: who serves a group or a transaction.

That is always this node, at once: a client that is told to come again on first use (COORDINATOR_NOT_AVAILABLE) may
never do so (kafkajs#1752).                                                                           Source: KIP-699
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.cluster.view import NOBODY
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(10, "FindCoordinator", 0, 6, flexible=3, request="""
    key string 0-3
    key_type int8 1+
    coordinator_keys []string 4+
""", response="""
    throttle_time_ms int32 1+
    coordinators [] 4+ {
        key string
        node_id int32
        host string
        port int32
        error_code int16
        error_message string?
    }
    error_code int16 0-3
    error_message string? 1-3
    node_id int32 0-3
    host string 0-3
    port int32 0-3
""")

GROUP, TRANSACTION = 0, 1


async def handle(call: Call, request: Message) -> Values:
    if call.version >= 4:
        rows: list[dict[str, Any]] = []
        for key in request.coordinator_keys:
            rows.append({"key": key, **_coordinator(call, request.key_type, key)})
            await call.rest()
        return {"coordinators": rows}
    return _coordinator(call, request.key_type, request.key)


def _coordinator(call: Call, key_type: int, key: str) -> dict[str, Any]:
    nobody = {"node_id": -1, "host": "", "port": -1}
    if key_type not in (GROUP, TRANSACTION):
        return {"error_code": Code.INVALID_REQUEST, "error_message": "groups and transactions only", **nobody}
    if key_type == GROUP and call.broker.groups.refuse_id(key) is not None:
        return {"error_code": Code.INVALID_GROUP_ID, "error_message": "not a group id", **nobody}
    if key_type == GROUP and not call.broker.groups.may_use(call.identity, key):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED, "error_message": "another user's group", **nobody}
    cluster = call.broker.cluster
    leader = next((one for one in cluster.brokers(*call.broker.address_for(call.client.local_address))
                   if one.id == cluster.leader_id != NOBODY), None)
    if leader is None:
        return {"error_code": Code.COORDINATOR_NOT_AVAILABLE, "error_message": "nobody leads the cluster now", **nobody}
    return {"node_id": leader.id, "host": leader.host, "port": leader.port, "error_message": ""}


API = Api(SCHEMA, handle)
