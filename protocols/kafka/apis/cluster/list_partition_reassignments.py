"""ListPartitionReassignments (46), version 0: none is under way, as there is one broker.             Source: KIP-455"""
from __future__ import annotations

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.schema import Schema

SCHEMA = Schema(46, "ListPartitionReassignments", 0, 0, flexible=0, request="""
    timeout_ms int32 = 60000
    topics []? {
        name string
        partition_indexes []int32
    }
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string?
    topics [] {
        name string
        partitions [] {
            partition_index int32
            replicas []int32
            adding_replicas []int32
            removing_replicas []int32
        }
    }
""")


async def handle(call: Call, request: Message) -> Values:
    return {"topics": []}


API = Api(SCHEMA, handle)
