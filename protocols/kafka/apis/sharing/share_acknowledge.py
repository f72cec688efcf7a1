"""ShareAcknowledge (79), versions 1 and 2: records are done, to be delivered again, or never again; or take longer.

Answered when that is on disk. One that the member does not hold (any more) refuses its partition: INVALID_RECORD_STATE.
                                                                                    Sources: KIP-932, KIP-1222
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.sharing.acks import acknowledge
from protocols.kafka.sharing.options import LOCK
from protocols.kafka.sharing.sessions import FINAL_EPOCH, INITIAL_EPOCH

SCHEMA = Schema(79, "ShareAcknowledge", 1, 2, flexible=0, request="""
    group_id string? = null
    member_id string?
    share_session_epoch int32
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
""", response="""
    throttle_time_ms int32
    error_code int16
    error_message string? = null
    acquisition_lock_timeout_ms int32 2+
    responses [] {
        topic_id uuid
        partitions [] {
            partition_index int32
            error_code int16
            error_message string? = null
            current_leader {
                leader_id int32 = -1
                leader_epoch int32 = -1
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


async def handle(call: Call, request: Message) -> Values:
    broker = call.broker
    if not request.group_id or not request.member_id:
        return {"error_code": Code.INVALID_REQUEST}
    if not broker.groups.may_use(call.identity, request.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    if request.share_session_epoch == INITIAL_EPOCH:
        return {"error_code": Code.INVALID_SHARE_SESSION_EPOCH, "error_message": "a session begins with a fetch"}
    session = broker.share_sessions.find(
        request.group_id, request.member_id, request.share_session_epoch, call.client)
    if isinstance(session, Code):
        return {"error_code": session}
    codes = await acknowledge(call, session, request.topics)
    if request.share_session_epoch == FINAL_EPOCH:
        broker.share_sessions.end(session, in_peace=True)
    topics: dict[bytes, list[dict[str, Any]]] = {}
    for (topic_id, index), code in codes.items():
        topics.setdefault(topic_id, []).append({"partition_index": index, "error_code": code})
    return {"acquisition_lock_timeout_ms": int(broker.share_groups.options.get(request.group_id, LOCK)),
            "responses": [{"topic_id": topic_id, "partitions": found} for topic_id, found in topics.items()]}


API = Api(SCHEMA, handle)
