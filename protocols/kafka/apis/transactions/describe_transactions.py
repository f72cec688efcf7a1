"""DescribeTransactions (65), version 0: what is known of transactional ids.                          Source: KIP-664"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.transactions.names import name_of
from protocols.kafka.apis.transactions.rights import may_use
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(65, "DescribeTransactions", 0, 0, flexible=0, request="""
    transactional_ids []string
""", response="""
    throttle_time_ms int32
    transaction_states [] {
        error_code int16
        transactional_id string
        transaction_state string
        transaction_timeout_ms int32
        transaction_start_time int64
        producer_id int64
        producer_epoch int16
        topics [] {
            topic string
            partitions []int32
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(request.transactional_ids):   # each once, however often it is named
        rows.append({"transactional_id": name, **_describe(call, name)})
        await call.rest()
    return {"transaction_states": rows}


def _describe(call: Call, name: str) -> dict[str, Any]:
    if not may_use(call, name):
        return {"error_code": Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
    found = call.broker.router.transactions.by_id.get(name)
    if found is None:
        return {"error_code": Code.TRANSACTIONAL_ID_NOT_FOUND}
    topics: dict[str, list[int]] = {}
    for stream, index in found.partitions:
        topics.setdefault(stream, []).append(index)
    return {
        "transaction_state": name_of(found.state), "transaction_timeout_ms": found.timeout_ms,
        "transaction_start_time": found.began_ms if found.partitions else -1, "producer_id": found.producer_id,
        "producer_epoch": found.epoch,
        "topics": [{"topic": stream, "partitions": indexes} for stream, indexes in topics.items()]}


API = Api(SCHEMA, handle)
