"""AlterClientQuotas (49), versions 0 and 1: set and take away quotas of users and client ids.        Source: KIP-546

Quotas of addresses (connection_creation_rate) are refused: limits of the node hold there.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.quotas.quotas import QuotaError
from routing.rights.policy import Action

SCHEMA = Schema(49, "AlterClientQuotas", 0, 1, flexible=1, request="""
    entries [] {
        entity [] {
            entity_type string
            entity_name string?
        }
        ops [] {
            key string
            value float64
            remove bool
        }
    }
    validate_only bool
""", response="""
    throttle_time_ms int32
    entries [] {
        error_code int16
        error_message string?
        entity [] {
            entity_type string
            entity_name string?
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for entry in request.entries:
        code, text = await _alter(call, entry, validate_only=request.validate_only)
        rows.append({"error_code": code, "error_message": text, "entity": [
            {"entity_type": part.entity_type, "entity_name": part.entity_name} for part in entry.entity]})
        await call.rest()
    return {"entries": rows}


async def _alter(call: Call, entry: Message, *, validate_only: bool) -> tuple[Code, str | None]:
    if not call.broker.topics.may(call.identity, Action.ADMINISTER):
        return Code.CLUSTER_AUTHORIZATION_FAILED, "not allowed"
    try:
        ticket = call.broker.quotas.change(
            [(part.entity_type, part.entity_name) for part in entry.entity],
            {op.key: None if op.remove else op.value for op in entry.ops}, validate_only=validate_only)
    except QuotaError as error:
        return Code.INVALID_REQUEST, str(error)
    if ticket is not None and (await call.durable(ticket)).refusals:
        return Code.KAFKA_STORAGE_ERROR, "it could not be stored"
    return Code.NONE, None


API = Api(SCHEMA, handle)
