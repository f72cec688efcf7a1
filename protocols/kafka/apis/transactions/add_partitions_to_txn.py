"""AddPartitionsToTxn (24), versions 0 to 3: partitions that a transaction is about to write to. All of them, or none.

Versions 4 and above are spoken between brokers.                                                      Source: KIP-98
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.transactions.rights import code_of_transaction, may_use
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from routing.rights.policy import Action

SCHEMA = Schema(24, "AddPartitionsToTxn", 0, 3, flexible=3, request="""
    v3_and_below_transactional_id string
    v3_and_below_producer_id int64
    v3_and_below_producer_epoch int16
    v3_and_below_topics [] {
        name string
        partitions []int32
    }
""", response="""
    throttle_time_ms int32
    results_by_topic_v3_and_below [] {
        name string
        results_by_partition [] {
            partition_index int32
            partition_error_code int16
        }
    }
""")

OPERATION_NOT_ATTEMPTED = 55


async def handle(call: Call, request: Message) -> Values:
    topics = call.broker.topics
    places = [(topic.name, index) for topic in request.v3_and_below_topics for index in topic.partitions]
    wrong: dict[tuple[str, int], int] = {}
    if not may_use(call, request.v3_and_below_transactional_id):
        wrong = dict.fromkeys(places, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    for name, index in places if not wrong else ():
        stream = topics.find(name)
        if stream is None or not 0 <= index < len(stream.partitions):
            wrong[name, index] = Code.UNKNOWN_TOPIC_OR_PARTITION
        elif not topics.may_write(call.identity, stream):
            topics.note_denial(call.identity, stream, Action.PUBLISH)
            wrong[name, index] = Code.TOPIC_AUTHORIZATION_FAILED
        await call.rest()
    otherwise: int = OPERATION_NOT_ATTEMPTED if wrong else Code.NONE
    if not wrong:
        ticket = call.broker.router.transactions.add_partitions(
            request.v3_and_below_transactional_id, request.v3_and_below_producer_id,
            request.v3_and_below_producer_epoch, places)
        refusal = (await call.durable(ticket)).refusals.get(0)
        if refusal is not None:
            otherwise = code_of_transaction(refusal)
    rows: list[dict[str, Any]] = [
        {"name": topic.name, "results_by_partition": [
            {"partition_index": index, "partition_error_code": wrong.get((topic.name, index), otherwise)}
            for index in topic.partitions]}
        for topic in request.v3_and_below_topics]
    return {"results_by_topic_v3_and_below": rows}


API = Api(SCHEMA, handle)
