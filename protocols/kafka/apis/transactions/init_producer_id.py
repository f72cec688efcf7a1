"""InitProducerId (22), versions 0 to 5: an id for an idempotent producer, which is never given out twice.

Version 6 (two-phase commit by somebody else) is not served.              Sources: KIP-98, KIP-360, KIP-588, KIP-890
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(22, "InitProducerId", 0, 5, flexible=2, request="""
    transactional_id string?
    transaction_timeout_ms int32
    producer_id int64 3+ = -1
    producer_epoch int16 3+ = -1
""", response="""
    throttle_time_ms int32
    error_code int16
    producer_id int64 = -1
    producer_epoch int16
""")


async def handle(call: Call, request: Message) -> Values:
    if request.transactional_id is not None:
        return {"error_code": Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
    producer_id, ticket = call.broker.producer_ids.take()
    if ticket is not None and (await call.durable(ticket)).refusals:
        return {"error_code": Code.COORDINATOR_NOT_AVAILABLE}
    return {"error_code": Code.NONE, "producer_id": producer_id, "producer_epoch": 0}


API = Api(SCHEMA, handle)
