"""Produce (0), versions 3 to 11; listed from 0 on: librdkafka before 2.11.1 compresses only when it sees that.

A batch is stored as it came, after its checksum and records were looked at. acks 1 and -1 are answered after the sync;
0 not at all, and what is wrong with it ends the connection. A batch that is refused refuses its partition only.
Version 12 (KIP-890) and 13 (topic ids) are not served.             Sources: KIP-98, KIP-107, KIP-467, KAFKA-18659
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.log import appending
from protocols.kafka.quotas.quotas import PRODUCE
from protocols.kafka.topics.names import name_problem
from routing.errors import Refusal
from routing.rights.policy import Action
from routing.streams.streams import Stream
from routing.ticket import Ticket

SCHEMA = Schema(0, "Produce", 3, 11, flexible=9, listed_from=0, request="""
    transactional_id string? = null
    acks int16
    timeout_ms int32
    topic_data [] {
        name string
        partition_data [] {
            index int32
            records bytes?
        }
    }
""", response="""
    responses [] {
        name string
        partition_responses [] {
            index int32
            error_code int16
            base_offset int64
            log_append_time int64
            log_start_offset int64 5+ = -1
            record_errors [] 8+ {
                batch_index int32
                batch_index_error_message string? = null
            }
            error_message string? 8+ = null
            current_leader 10+ tag=0 {
                leader_id int32 = -1
                leader_epoch int32 = -1
            }
        }
    }
    throttle_time_ms int32
    node_endpoints [] 10+ tag=0 {
        node_id int32
        host string
        port int32
        rack string? = null
    }
""")

ACKS = (-1, 0, 1)
Row = dict[str, Any]


async def handle(call: Call, request: Message) -> Values | None:
    waiting: list[tuple[Row, Stream, Ticket]] = []
    rows: list[Row] = []
    for topic in request.topic_data:
        stream = _writable(call, topic.name)
        partitions: list[Row] = []
        for part in topic.partition_data:
            row: Row = {"index": part.index, "base_offset": -1, "log_append_time": -1}
            partitions.append(row)
            outcome = _append(call, request, stream, part)
            if isinstance(outcome, Ticket):
                assert isinstance(stream, Stream)
                waiting.append((row, stream, outcome))
            else:
                row["error_code"], row["error_message"] = outcome
            await call.rest()
        rows.append({"name": topic.name, "partition_responses": partitions})
    call.charge(PRODUCE, sum(len(part.records or b"") for topic in request.topic_data for part in topic.partition_data))
    call.may_overlap()
    if request.acks == 0:
        if any(row.get("error_code") for topic in rows for row in topic["partition_responses"]):
            call.client.end_after_answer()
        return None
    for row, stream, ticket in waiting:
        _fill(row, stream, await call.durable(ticket))
    return {"responses": rows}


def _writable(call: Call, name: str) -> Stream | tuple[Code, str]:
    topics = call.broker.topics
    problem = name_problem(name)
    if problem is not None:
        return Code.INVALID_TOPIC_EXCEPTION, problem
    stream = topics.find(name)
    if stream is None:
        return Code.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic"
    if not topics.may_write(call.identity, stream):
        topics.note_denial(call.identity, stream, Action.PUBLISH)
        return Code.TOPIC_AUTHORIZATION_FAILED, f"user {call.identity.user} may not publish to {name}"
    return stream


def _append(call: Call, request: Message, stream: Stream | tuple[Code, str], part: Message
            ) -> Ticket | tuple[Code, str]:
    if not isinstance(stream, Stream):
        return stream
    if request.acks not in ACKS:
        return Code.INVALID_REQUIRED_ACKS, "acks are 0, 1 or -1"
    if not 0 <= part.index < len(stream.partitions):
        return Code.UNKNOWN_TOPIC_OR_PARTITION, f"the topic has {len(stream.partitions)} partitions"
    if not part.records:
        return Code.INVALID_RECORD, "no records"
    return appending.append(call.broker.router, stream, part.index, part.records, call.publisher)


def _fill(row: Row, stream: Stream, ticket: Ticket) -> None:
    part = next(iter(ticket.parts))
    refusal: Refusal | None = part.refusal
    if refusal is not None:
        row["error_code"], row["error_message"] = appending.code_of(refusal), refusal.text
        return
    row["base_offset"] = part.base_offset
    row["log_start_offset"] = stream.partitions[row["index"]].start_offset


API = Api(SCHEMA, handle)
