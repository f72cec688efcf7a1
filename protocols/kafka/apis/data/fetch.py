"""Fetch (1), versions 4 to 12: batches as they are stored, from the one that holds the offset.

Answered at once when min_bytes are there or a partition has an error, else when that is so or max_wait is over; a wait
costs nothing but a place in a list. Empty records are empty bytes, never null (KAFKA-18646). One batch always fits,
however small the bounds. Sessions (KIP-227) are not kept: a client that asks for one is answered in full, with session
id 0, and goes on so. Version 13 and above go by topic ids and are not served.         Sources: KIP-74, KIP-98, KIP-320
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.log import fetching
from protocols.kafka.log.waiting import wait_for_more
from routing.errors import StorageError
from routing.log.fetch import OutOfRange
from routing.streams import Stream

if TYPE_CHECKING:
    from routing.log.partition import Partition

SCHEMA = Schema(1, "Fetch", 4, 12, flexible=12, request="""
    cluster_id string? 12+ tag=0 = null
    replica_id int32 = -1
    max_wait_ms int32
    min_bytes int32
    max_bytes int32 = 2147483647
    isolation_level int8
    session_id int32 7+
    session_epoch int32 7+ = -1
    topics [] {
        topic string
        partitions [] {
            partition int32
            current_leader_epoch int32 9+ = -1
            fetch_offset int64
            last_fetched_epoch int32 12+ = -1
            log_start_offset int64 5+ = -1
            partition_max_bytes int32
        }
    }
    forgotten_topics_data [] 7+ {
        topic string 7-12
        partitions []int32
    }
    rack_id string 11+
""", response="""
    throttle_time_ms int32
    error_code int16 7+
    session_id int32 7+
    responses [] {
        topic string
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
""")

FULL_WITHOUT_SESSION, FULL = -1, 0          # session epochs that ask for everything


class _Reading:
    """One partition of a request: where to read on, what was read, what is wrong."""

    __slots__ = ("bytes_left", "code", "from_offset", "index", "offset", "partition", "pieces", "stream")

    def __init__(self, stream: Stream | None, asked: Message) -> None:
        self.stream = stream
        self.index: int = asked.partition
        self.offset: int = asked.fetch_offset
        self.from_offset = self.offset
        self.bytes_left = max(asked.partition_max_bytes, 0)
        self.pieces: list[bytes] = []
        self.code = Code.NONE
        self.partition: Partition | None = None
        if stream is not None and 0 <= self.index < len(stream.partitions):
            self.partition = stream.partitions[self.index]
        else:
            self.code = Code.UNKNOWN_TOPIC_OR_PARTITION


async def handle(call: Call, request: Message) -> Values:
    if request.session_id != 0 and request.session_epoch != FULL_WITHOUT_SESSION:
        return {"error_code": Code.FETCH_SESSION_ID_NOT_FOUND}
    settings, turns = call.broker.settings, call.broker.router.turns
    readings: list[tuple[str, list[_Reading]]] = []
    for topic in request.topics:
        stream = call.broker.topics.find(topic.topic)
        readings.append((topic.topic, [_Reading(stream, asked) for asked in topic.partitions]))
        await call.rest()
    wait_s = min(max(request.max_wait_ms, 0) / 1000, settings.fetch_wait_max_s)
    due_s = turns.clock_s() + wait_s
    bytes_max = min(max(request.max_bytes, 0), settings.fetch_bytes_max)
    if call.broker.answers.refuse(call.identity.user, settings.answers_bytes_max, bytes_max) is not None:
        bytes_max = 0                                       # one batch: his clients have not taken what they have
    size = 0
    while True:
        size += await _read(call, request.isolation_level, readings, bytes_max, size)
        wrong = any(reading.code for _, found in readings for reading in found)
        left_s = due_s - turns.clock_s()
        if wrong or size >= min(request.min_bytes, bytes_max) or left_s <= 0:
            break
        await wait_for_more(call, [
            reading.partition for _, found in readings for reading in found if reading.partition is not None], left_s)
    call.client.hold_answer(size)
    return {"responses": [
        {"topic": name, "partitions": [_row(reading, request.isolation_level) for reading in found]}
        for name, found in readings]}


async def _read(call: Call, isolation: int, readings: list[tuple[str, list[_Reading]]], bytes_max: int,
                size: int) -> int:
    """Read on in every partition, as far as the bounds go. Returns how many bytes that were."""
    taken = 0
    for _, found in readings:
        stream = found[0].stream if found else None
        if stream is not None and not call.broker.topics.may_read(call.identity, stream):
            call.broker.topics.note_denial(call.identity, stream)
            for reading in found:
                reading.code, reading.pieces = Code.TOPIC_AUTHORIZATION_FAILED, []
            continue
        for reading in found:
            if not reading.code:
                taken += await _read_one(
                    call, reading, isolation, bytes_max - size - taken, first=size + taken == 0)
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
        "partition_index": reading.index, "error_code": reading.code, "high_watermark": -1,
        "last_stable_offset": -1, "log_start_offset": -1, "aborted_transactions": None, "records": b""}
    if partition is not None and reading.code != Code.TOPIC_AUTHORIZATION_FAILED:
        row.update(high_watermark=fetching.high_watermark(partition), last_stable_offset=fetching.end_of(partition, 1),
                   log_start_offset=partition.start_offset)
    if not reading.code and reading.pieces:
        row["records"] = reading.pieces[0] if len(reading.pieces) == 1 else b"".join(reading.pieces)
        if isolation == fetching.READ_COMMITTED and partition is not None:
            row["aborted_transactions"] = fetching.aborted(partition, reading.from_offset, reading.offset)
    return row


API = Api(SCHEMA, handle)
