"""ShareFetch (78), versions 1 and 2: records for one member of a share group, which has them until it answers.

The answer names the records that the member has acquired; the batches around them are as stored, and may hold others,
which the client leaves out. It may acknowledge earlier ones with the same request. A session: sharing/sessions.py.
Both modes of acquiring are the exact one: never more records than asked for.                Sources: KIP-932, KIP-1206
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.quotas.quotas import FETCH
from protocols.kafka.sharing.acks import acknowledge
from protocols.kafka.sharing.acquiring import acquire, read
from protocols.kafka.sharing.options import LOCK
from protocols.kafka.sharing.sessions import FINAL_EPOCH, INITIAL_EPOCH, Place, ShareSession

SCHEMA = Schema(78, "ShareFetch", 1, 2, flexible=0, request="""
    group_id string? = null
    member_id string?
    share_session_epoch int32
    max_wait_ms int32
    min_bytes int32
    max_bytes int32 = 2147483647
    max_records int32
    batch_size int32
    share_acquire_mode int8 2+ = 0
    is_renew_ack bool 2+ = false
    topics [] {
        topic_id uuid
        partitions [] {
            partition_index int32
            acknowledgement_batches [] {
                first_offset int64
                last_offset int64
                acknowledge_types []int8
            }
        }
    }
    forgotten_topics_data [] {
        topic_id uuid
        partitions []int32
    }
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string? = null
    acquisition_lock_timeout_ms int32
    responses [] {
        topic_id uuid
        partitions [] {
            partition_index int32
            error_code int16
            error_message string? = null
            acknowledge_error_code int16
            acknowledge_error_message string? = null
            current_leader {
                leader_id int32 = -1
                leader_epoch int32 = -1
            }
            records bytes?
            acquired_records [] {
                first_offset int64
                last_offset int64
                delivery_count int16
            }
        }
    }
    node_endpoints [] {
        node_id int32
        host string
        port int32
        rack string? = null
    }
""")

Rows = dict[Place, dict[str, Any]]


async def handle(call: Call, request: Message) -> Values:
    broker, epoch = call.broker, request.share_session_epoch
    if not request.group_id or not request.member_id:
        return {"error_code": Code.INVALID_REQUEST}
    if not broker.groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    acks = any(place.acknowledgement_batches for topic in request.topics for place in topic.partitions)
    if epoch == INITIAL_EPOCH and acks:
        return {"error_code": Code.INVALID_REQUEST, "error_message": "a new session has nothing to acknowledge"}
    session = broker.share_sessions.begin(request.group_id, request.member_id, call.client) \
        if epoch == INITIAL_EPOCH else broker.share_sessions.find(
            request.group_id, request.member_id, epoch, call.client)
    if isinstance(session, Code):
        return {"error_code": session}
    rows: Rows = {}
    for place, code in (await acknowledge(call, session, request.topics)).items():
        rows.setdefault(place, {})["acknowledge_error_code"] = code
    if epoch == FINAL_EPOCH:
        broker.share_sessions.end(session, in_peace=True)
        return _answer(call, session, rows)
    code = broker.share_sessions.change(
        session, [(topic.topic_id, place.partition_index) for topic in request.topics for place in topic.partitions],
        [(topic.topic_id, index) for topic in request.forgotten_topics_data for index in topic.partitions])
    if code:
        broker.share_sessions.end(session, in_peace=True)
        return {"error_code": code}
    await _refuse(call, session, rows)
    if request.max_records > 0 and not request.is_renew_ack and session.reader.consumer is not None:
        await _fetch(call, session, request, rows)
    return _answer(call, session, rows)


async def _refuse(call: Call, session: ShareSession, rows: Rows) -> None:
    """Partitions that are not there, or not for this user: they get an error each time, and nothing is taken."""
    topics, sessions = call.broker.topics, call.broker.share_sessions
    may: dict[bytes, bool] = {}
    for place in list(session.places):
        stream = topics.by_id(place[0])
        if stream is None:
            rows.setdefault(place, {})["error_code"] = Code.UNKNOWN_TOPIC_ID
        elif sessions.partition(place) is None:
            rows.setdefault(place, {})["error_code"] = Code.UNKNOWN_TOPIC_OR_PARTITION
        else:
            if place[0] not in may:
                may[place[0]] = topics.may_read(call.identity, stream)
                if not may[place[0]]:
                    topics.note_denial(call.identity, stream)
            if not may[place[0]]:
                rows.setdefault(place, {})["error_code"] = Code.TOPIC_AUTHORIZATION_FAILED
        await call.rest()


async def _fetch(call: Call, session: ShareSession, request: Message, rows: Rows) -> None:
    settings, broker = call.broker.settings, call.broker
    call.charge(FETCH, 0)
    if call.throttle_s > 0 or any(row.get("error_code") for row in rows.values()):
        return                                          # at once: the client is to wait, or to look at what is wrong
    bytes_max = min(max(request.max_bytes, 1), settings.fetch_bytes_max)
    if broker.answers.refuse(call.identity.user, settings.answers_bytes_max, bytes_max) is not None:
        bytes_max = 1                                   # one batch: his clients have not taken what they have
    wait_s = min(max(request.max_wait_ms, 0) / 1000, settings.fetch_wait_max_s)
    taken = await acquire(call, session.reader, min(request.max_records, settings.share_locks_max), wait_s)
    size = 0
    for partition, found in (await read(call, session.reader, taken, bytes_max)).items():
        stream = broker.topics.find(partition.stream)
        if stream is not None:
            rows.setdefault((broker.topics.id_of(stream), partition.index), {}).update(
                error_code=found.code, records=found.data, acquired_records=found.records)
            size += len(found.data)
    call.client.hold_answer(size)
    call.charge(FETCH, size)


def _answer(call: Call, session: ShareSession, rows: Rows) -> Values:
    topics: dict[bytes, list[dict[str, Any]]] = {}
    for (topic_id, index), row in rows.items():
        topics.setdefault(topic_id, []).append({"partition_index": index, "records": b"", **row})
    lock_ms = int(call.broker.share_groups.options.get(session.group_id, LOCK))
    return {"acquisition_lock_timeout_ms": lock_ms,
            "responses": [{"topic_id": topic_id, "partitions": found} for topic_id, found in topics.items()]}


API = Api(SCHEMA, handle)
