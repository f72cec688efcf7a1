"""InitProducerId (22), versions 0 to 5: an id for an idempotent producer, or the next epoch of a transactional one.

An id is never given out twice. Who takes over a transactional id fences who had it, whose open transaction is aborted
first. Version 6 (two-phase commit by somebody else) is not served.       Sources: KIP-98, KIP-360, KIP-588, KIP-890
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.transactions.rights import code_of_transaction, may_use
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
    name: str | None = request.transactional_id
    if name is not None and not name:
        return {"error_code": Code.INVALID_REQUEST}
    if name is not None and not may_use(call, name):
        return {"error_code": Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
    made = call.broker.router.transactions.init(
        name, request.transaction_timeout_ms, producer_id=request.producer_id, epoch=request.producer_epoch,
        owner=call.identity.user)
    refusal = (await call.durable(made.ticket)).refusals.get(0)
    if refusal is not None:
        code = code_of_transaction(refusal)
        fenced = code is Code.INVALID_PRODUCER_EPOCH and call.version >= 4
        return {"error_code": Code.PRODUCER_FENCED if fenced else code}
    return {"error_code": Code.NONE, "producer_id": made.producer_id, "producer_epoch": made.epoch}


API = Api(SCHEMA, handle)
