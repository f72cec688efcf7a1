"""ListTransactions (66), versions 0 and 1: transactional ids, by state, producer and age.    Sources: KIP-664, KIP-994

Version 2 (a regular expression of the client) is not served.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.transactions.names import ALL, name_of
from protocols.kafka.apis.transactions.rights import may_use
from protocols.kafka.codec.schema import Schema
from routing.producers.transactions import State

SCHEMA = Schema(66, "ListTransactions", 0, 1, flexible=0, request="""
    state_filters []string
    producer_id_filters []int64
    duration_filter int64 1+ = -1
""", response="""
    throttle_time_ms int32
    error_code int16
    unknown_state_filters []string
    transaction_states [] {
        transactional_id string
        producer_id int64
        transaction_state string
    }
""")


async def handle(call: Call, request: Message) -> Values:
    router = call.broker.router
    states, producers = set(request.state_filters), set(request.producer_id_filters)
    oldest_ms = router.clock_ms() - request.duration_filter if request.duration_filter >= 0 else None
    rows: list[dict[str, Any]] = []
    for name, found in list(router.transactions.by_id.items()) if call.broker.cluster.leads else ():
        state = name_of(found.state)
        fits = (not states or state in states) and (not producers or found.producer_id in producers)
        if oldest_ms is not None:
            fits = fits and found.state is State.ONGOING and found.began_ms < oldest_ms
        if fits and may_use(call, name):
            rows.append({"transactional_id": name, "producer_id": found.producer_id, "transaction_state": state})
        await call.rest()
    return {"unknown_state_filters": sorted(states - ALL), "transaction_states": rows}


API = Api(SCHEMA, handle)
