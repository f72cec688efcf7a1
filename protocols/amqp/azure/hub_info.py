"""$management of Event Hubs: READ of a hub, and of a partition.                      Source: Event Hubs, AMQP 1.0 guide

    type com.microsoft:eventhub     name                 → name, created_at, partition_count, partition_ids
    type com.microsoft:partition    name, partition      → begin and last sequence numbers, last offset and its time

Sequence numbers and offsets are those of the log, as Kafka's clients see them.
"""
from __future__ import annotations

from protocols.amqp.azure.desk import Answer, Request
from protocols.amqp.azure.hubs import Hubs
from protocols.amqp.codec.types import Array, Int, Timestamp, Value
from routing.errors import StorageError
from routing.log.partition import Partition
from routing.rights.policy import Identity
from routing.streams.streams import Stream

HUB, PARTITION = "com.microsoft:eventhub", "com.microsoft:partition"


def describe(hubs: Hubs, identity: Identity, request: Request, answer: Answer) -> None:
    """Raises LinkFault."""
    kind = request.text("type")
    if request.text("operation") != "READ" or kind not in (HUB, PARTITION):
        answer(400, f"$management knows READ of {HUB} and {PARTITION}", None)
        return
    try:
        stream = hubs.described(request.text("name"), identity)
        if kind == HUB:
            answer(200, "OK", _hub(stream))
            return
        index = request.text("partition")
        if not index.isascii() or not index.isdigit() or int(index) >= len(stream.partitions):
            answer(404, f"the hub {stream.name} has no partition {index[:20]}", None)
            return
        answer(200, "OK", _partition(stream, stream.partitions[int(index)]))
    except StorageError as error:
        answer(500, str(error), None)


def _hub(stream: Stream) -> dict[Value, Value]:
    """created_at: the time of the oldest event that is still there, as nobody knows more."""
    times = [_time_of(partition, partition.start_offset) for partition in stream.partitions]
    ids = [str(partition.index) for partition in stream.partitions]
    return {"name": stream.name, "type": HUB, "created_at": Timestamp(min((time for time in times if time), default=0)),
            "partition_count": Int(len(ids)), "partition_ids": Array(0xA1, ids)}


def _partition(stream: Stream, partition: Partition) -> dict[Value, Value]:
    last = partition.end_offset - 1
    is_empty = last < partition.start_offset
    return {
        "name": stream.name, "type": PARTITION, "partition": str(partition.index),
        "begin_sequence_number": partition.start_offset,
        "last_enqueued_sequence_number": last, "last_enqueued_offset": str(last),
        "last_enqueued_time_utc": Timestamp(0 if is_empty else _time_of(partition, last)),
        "is_partition_empty": is_empty}


def _time_of(partition: Partition, offset: int) -> int:
    event = partition.event(offset)
    return event.timestamp_ms if event is not None else 0
