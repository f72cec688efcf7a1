"""Fetch (1), versions 4 to 17: batches as they are stored, from the one that holds the offset.

Answered at once when min_bytes are there or a partition has an error, else when that is so or max_wait is over; a wait
costs nothing but a place in a list. Empty records are empty bytes, never null (KAFKA-18646). One batch always fits,
however small the bounds. From version 13 on topics are named by their ids: one that was deleted is UNKNOWN_TOPIC_ID,
also when there is another one of its name. Sessions: runtime/fetch_sessions.py.
                                                            Sources: KIP-74, KIP-98, KIP-227, KIP-320, KIP-516
"""
from __future__ import annotations

import secrets
from itertools import groupby
from typing import TYPE_CHECKING, Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.log import fetching
from protocols.kafka.log.waiting import wait_for_more
from protocols.kafka.quotas.quotas import FETCH
from protocols.kafka.runtime.fetch_sessions import EPOCH_MAX, FINAL_EPOCH, INITIAL_EPOCH, Asked, Session
from routing.errors import StorageError
from routing.log.fetch import OutOfRange
from routing.streams.streams import Stream

if TYPE_CHECKING:
    from routing.log.partition import Partition

SCHEMA = Schema(1, "Fetch", 4, 17, flexible=12, request="""
    cluster_id string? 12+ tag=0 = null
    replica_id int32 0-14 = -1
    replica_state 15+ tag=1 {
        replica_id int32 = -1
        replica_epoch int64 = -1
    }
    max_wait_ms int32
    min_bytes int32
    max_bytes int32 = 2147483647
    isolation_level int8
    session_id int32 7+
    session_epoch int32 7+ = -1
    topics [] {
        topic string 0-12
        topic_id uuid 13+
        partitions [] {
            partition int32
            current_leader_epoch int32 9+ = -1
            fetch_offset int64
            last_fetched_epoch int32 12+ = -1
            log_start_offset int64 5+ = -1
            partition_max_bytes int32
            replica_directory_id uuid 17+ tag=0
        }
    }
    forgotten_topics_data [] 7+ {
        topic string 7-12
        topic_id uuid 13+
        partitions []int32
    }
    rack_id string 11+
""", response="""
    throttle_time_ms int32
    error_code int16 7+
    session_id int32 7+
    responses [] {
        topic string 0-12
        topic_id uuid 13+
        partitions [] {
            partition_index int32
            error_code int16
            high_watermark int64
            last_stable_offset int64 = -1
            log_start_offset int64 5+ = -1
            diverging_epoch 12+ tag=0 {
                epoch int32 = -1
                end_offset int64 = -1
            }
            current_leader 12+ tag=1 {
                leader_id int32 = -1
                leader_epoch int32 = -1
            }
            snapshot_id 12+ tag=2 {
                end_offset int64 = -1
                epoch int32 = -1
            }
            aborted_transactions []? {
                producer_id int64
                first_offset int64
            }
            preferred_read_replica int32 11+ = -1
            records bytes?
        }
    }
    node_endpoints [] 16+ tag=0 {
        node_id int32
        host string
        port int32
        rack string? = null
    }
""")

ROWS_PER_REST = 64
BY_ID = 13                  # the first version in which topics are named by their ids


class _Reading:
    """One partition of a request: where to read on, what was read, what is wrong."""

    __slots__ = ("asked", "bytes_left", "code", "offset", "partition", "pieces", "stream")

    def __init__(self, stream: Stream | None, asked: Asked) -> None:
        self.asked = asked
        self.stream = stream
        self.offset = asked.offset
        self.bytes_left = max(asked.bytes_max, 0)
        self.pieces: list[bytes] = []
        self.code = Code.NONE
        self.partition: Partition | None = None
        if stream is not None and 0 <= asked.index < len(stream.partitions):
            self.partition = stream.partitions[asked.index]
        elif stream is None and isinstance(asked.topic, bytes):
            self.code = Code.UNKNOWN_TOPIC_ID
        else:
            self.code = Code.UNKNOWN_TOPIC_OR_PARTITION


async def handle(call: Call, request: Message) -> Values:
    by_id = call.version >= BY_ID
    named = [Asked(topic.topic_id if by_id else topic.topic, place.partition, place.fetch_offset,
                   place.partition_max_bytes) for topic in request.topics for place in topic.partitions]
    session = call.client.fetch_session
    if request.session_epoch in (FINAL_EPOCH, INITIAL_EPOCH):
        if session is not None and (request.session_epoch == INITIAL_EPOCH or session.id == request.session_id):
            call.client.keep_session(None)
        session, asked = None, named
    else:
        code = session.refuse(request.session_id, request.session_epoch, by_id) if session is not None \
            else Code.FETCH_SESSION_ID_NOT_FOUND
        if session is None or code:
            return {"error_code": code}
        asked = session.go_on(named, [
            (topic.topic_id if by_id else topic.topic, index)
            for topic in request.forgotten_topics_data for index in topic.partitions])
        if len(asked) > call.broker.settings.request_items_max or not call.client.keep_session(session):
            call.client.keep_session(None)
            return {"error_code": Code.FETCH_SESSION_ID_NOT_FOUND}
    call.charge(FETCH, 0)
    if call.throttle_s > 0:                                     # by what it fetched on other connections
        return {"session_id": session.id if session is not None else 0, "responses": []}
    readings = await _readings(call, asked)
    size = await _gather(call, request, readings)
    call.charge(FETCH, size)
    rows: list[tuple[Asked, dict[str, Any]]] = []
    for number, reading in enumerate(readings, 1):
        row = _row(reading, request.isolation_level)
        if session is None or session.news(reading.asked, row):
            rows.append((reading.asked, row))
        if number % ROWS_PER_REST == 0:
            await call.rest()
    if session is not None:
        return {"session_id": session.id, "responses": _by_topic(rows, by_id)}
    if request.session_epoch == INITIAL_EPOCH and call.version >= 7:
        session = Session(secrets.randbelow(EPOCH_MAX) + 1, by_id, asked)
        for place, row in rows:
            session.news(place, row)
        if not call.client.keep_session(session):               # no room: the client goes on in full
            session = None
    return {"session_id": session.id if session is not None else 0, "responses": _by_topic(rows, by_id)}


async def _readings(call: Call, asked: list[Asked]) -> list[_Reading]:
    topics = call.broker.topics
    streams: dict[str | bytes, Stream | None] = {}
    readings: list[_Reading] = []
    for number, place in enumerate(asked, 1):
        topic = place.topic
        if topic not in streams:
            streams[topic] = topics.find(topic) if isinstance(topic, str) else topics.by_id(topic)
        readings.append(_Reading(streams[topic], place))
        if number % ROWS_PER_REST == 0:
            await call.rest()
    return readings


def _by_topic(rows: list[tuple[Asked, dict[str, Any]]], by_id: bool) -> list[dict[str, Any]]:
    """Rows of one topic that stand side by side are told together."""
    name = "topic_id" if by_id else "topic"
    return [{name: topic, "partitions": [row for _, row in found]}
            for topic, found in groupby(rows, key=lambda pair: pair[0].topic)]


async def _gather(call: Call, request: Message, readings: list[_Reading]) -> int:
    """Read until there is enough, something is wrong, or the time is over. Returns how many bytes there are."""
    settings, turns = call.broker.settings, call.broker.router.turns
    due_s = turns.clock_s() + min(max(request.max_wait_ms, 0) / 1000, settings.fetch_wait_max_s)
    bytes_max = min(max(request.max_bytes, 0), settings.fetch_bytes_max)
    size = 0
    while True:
        refused = call.broker.answers.refuse(call.identity.user, settings.answers_bytes_max, bytes_max - size)
        more = await _read(call, request.isolation_level, readings, size if refused is not None else bytes_max, size)
        call.client.hold_answer(more)                       # refused: one batch, his clients have enough to take
        size += more
        wrong = any(reading.code for reading in readings)
        left_s = due_s - turns.clock_s()
        if wrong or size >= min(request.min_bytes, bytes_max) or left_s <= 0:
            return size
        await wait_for_more(
            call, [reading.partition for reading in readings if reading.partition is not None], left_s)


async def _read(call: Call, isolation: int, readings: list[_Reading], bytes_max: int, size: int) -> int:
    """Read on in every partition, as far as the bounds go. Returns how many bytes that were."""
    topics, taken = call.broker.topics, 0
    may: dict[Stream, bool] = {}
    for reading in readings:
        stream = reading.stream
        if reading.code or stream is None:
            continue
        if stream not in may:
            may[stream] = topics.may_read(call.identity, stream)
            if not may[stream]:
                topics.note_denial(call.identity, stream)
        if not may[stream]:
            reading.code, reading.pieces = Code.TOPIC_AUTHORIZATION_FAILED, []
            continue
        taken += await _read_one(call, reading, isolation, bytes_max - size - taken, first=size + taken == 0)
        await call.rest()
    return taken


async def _read_one(call: Call, reading: _Reading, isolation: int, room: int, *, first: bool) -> int:
    """first: nothing was found yet, so one batch is taken whatever its size."""
    partition = reading.partition
    assert partition is not None
    room = min(room, reading.bytes_left)
    if room <= 0 and not first:
        return 0
    try:
        data, next_offset = await fetching.read(call, partition, reading.offset, room, isolation)
    except OutOfRange:
        reading.code = Code.OFFSET_OUT_OF_RANGE
        return 0
    except StorageError:
        reading.code = Code.KAFKA_STORAGE_ERROR
        return 0
    if not data or (len(data) > room and not first):        # one batch always comes: it goes with the next request
        return 0
    reading.pieces.append(data)
    reading.offset = next_offset
    reading.bytes_left -= len(data)
    return len(data)


def _row(reading: _Reading, isolation: int) -> dict[str, Any]:
    partition = reading.partition
    row: dict[str, Any] = {
        "partition_index": reading.asked.index, "error_code": reading.code, "high_watermark": -1,
        "last_stable_offset": -1, "log_start_offset": -1, "aborted_transactions": None, "records": b""}
    if partition is not None and reading.code != Code.TOPIC_AUTHORIZATION_FAILED:
        row.update(high_watermark=fetching.high_watermark(partition), last_stable_offset=fetching.end_of(partition, 1),
                   log_start_offset=partition.start_offset)
    if not reading.code and reading.pieces:
        row["records"] = reading.pieces[0] if len(reading.pieces) == 1 else b"".join(reading.pieces)
        if isolation == fetching.READ_COMMITTED and partition is not None:
            row["aborted_transactions"] = fetching.aborted(partition, reading.asked.offset, reading.offset)
    return row


API = Api(SCHEMA, handle)
