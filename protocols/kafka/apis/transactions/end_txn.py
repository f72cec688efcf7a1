"""EndTxn (26), versions 0 to 4: commit or abort. Answered when every reader may see it, or see past it.

Asked again after a lost answer, it answers the same. Version 5 (KIP-890) is not served.              Source: KIP-98
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.transactions.rights import code_of_transaction, may_use
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(26, "EndTxn", 0, 4, flexible=3, request="""
    transactional_id string
    producer_id int64
    producer_epoch int16
    committed bool
""", response="""
    throttle_time_ms int32
    error_code int16
""")


async def handle(call: Call, request: Message) -> Values:
    if not may_use(call, request.transactional_id):
        return {"error_code": Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
    ticket = call.broker.router.transactions.end(
        request.transactional_id, request.producer_id, request.producer_epoch, commit=request.committed)
    refusal = (await call.durable(ticket)).refusals.get(0)
    if refusal is None:
        return {"error_code": Code.NONE}
    code = code_of_transaction(refusal)
    return {"error_code": Code.PRODUCER_FENCED if code is Code.INVALID_PRODUCER_EPOCH and call.version >= 2 else code}


API = Api(SCHEMA, handle)
