"""AddOffsetsToTxn (25), versions 0 to 4: offsets of a group will be part of a transaction.              Source: KIP-98

Nothing is to be noted but that it has begun: the offsets come with TxnOffsetCommit, and this node keeps both.
"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.transactions.rights import code_of_transaction, may_use
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(25, "AddOffsetsToTxn", 0, 4, flexible=3, request="""
    transactional_id string
    producer_id int64
    producer_epoch int16
    group_id string
""", response="""
    throttle_time_ms int32
    error_code int16
""")


async def handle(call: Call, request: Message) -> Values:
    if not may_use(call, request.transactional_id):
        return {"error_code": Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
    if not call.broker.groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    ticket = call.broker.router.transactions.add_state(
        request.transactional_id, request.producer_id, request.producer_epoch, {})
    refusal = (await call.durable(ticket)).refusals.get(0)
    return {"error_code": Code.NONE if refusal is None else code_of_transaction(refusal)}


API = Api(SCHEMA, handle)
