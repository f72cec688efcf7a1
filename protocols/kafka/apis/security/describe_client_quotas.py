"""DescribeClientQuotas (48), versions 0 and 1: the quotas of users and client ids that a filter matches.
                                                                                                    Source: KIP-546
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.quotas.quotas import Entity
from routing.rights.policy import Action

SCHEMA = Schema(48, "DescribeClientQuotas", 0, 1, flexible=1, request="""
    components [] {
        entity_type string
        match_type int8
        match string?
    }
    strict bool
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string?
    entries []? {
        entity [] {
            entity_type string
            entity_name string?
        }
        values [] {
            key string
            value float64
        }
    }
""")

EXACT, DEFAULT, ANY = range(3)          # match types


async def handle(call: Call, request: Message) -> Values:
    if not call.broker.topics.may(call.identity, Action.VIEW):
        return {"error_code": Code.CLUSTER_AUTHORIZATION_FAILED, "error_message": "not allowed"}
    if any(part.match_type not in (EXACT, DEFAULT, ANY) or (part.match_type == EXACT and part.match is None)
           for part in request.components) or len({part.entity_type for part in request.components}) < len(
               request.components):
        return {"error_code": Code.INVALID_REQUEST, "error_message": "not a filter of quotas"}
    rows: list[dict[str, Any]] = []
    for entity, values in call.broker.quotas.entries():
        if _matches(entity, request):
            rows.append({"entity": [{"entity_type": type, "entity_name": name} for type, name in entity],
                         "values": [{"key": key, "value": value} for key, value in values.items()]})
        await call.rest()
    return {"error_message": None, "entries": rows}


def _matches(entity: Entity, request: Message) -> bool:
    names = dict(entity)
    if request.strict and len(names) > len(request.components):
        return False
    for part in request.components:
        if part.entity_type not in names:
            return False
        name = names[part.entity_type]
        if (part.match_type == EXACT and name != part.match) or (part.match_type == DEFAULT and name is not None):
            return False
    return True


API = Api(SCHEMA, handle)
