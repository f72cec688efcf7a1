"""Where an SSE reader begins: `from` and Last-Event-ID to the next offset of every partition.

    latest · earliest · <id: of an SSE event> · <id of a published event> · <RFC 3339 time>

An id means "after that": of an SSE event everything before it in all partitions counts as seen; of a published event
the events after it in its partition, and in the others those stored at its time or later.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.rest.convert import parse_rfc3339
from protocols.rest.location import BadPosition, Vector, decode_position, epoch_tag, parse_event_id
from protocols.rest.problems import Problem

if TYPE_CHECKING:
    from routing.log.partition import Partition


def start_vector(text: str, partitions: list[Partition], epoch: str) -> Vector:
    """text: the wanted beginning. partitions: those that the reader's filters can reach. Raises Problem (400, 410)."""
    if text == "latest":
        return _vector(partitions, [partition.next_offset for partition in partitions])
    if text == "earliest":
        return _vector(partitions, [partition.start_offset for partition in partitions])
    event = parse_event_id(text)
    if event is not None:
        return _after_event(event, partitions)
    time_ms = parse_rfc3339(text)
    if time_ms is not None:
        return _vector(partitions, [partition.offset_for_time(max(time_ms, 0)) for partition in partitions])
    return _after_position(text, partitions, epoch)


def _after_event(event: tuple[str, int, int], partitions: list[Partition]) -> Vector:
    stream, index, offset = event
    home = next((part for part in partitions if (part.stream, part.index) == (stream, index)), None)
    if home is None or offset >= home.next_offset:
        raise Problem(400, "position-invalid", "no event of these filters has the id in from")
    found = home.event(offset)
    starts = []
    for partition in partitions:
        if partition is home:
            starts.append(offset + 1)
        elif found is None:                     # retention has taken it: what is left is newer
            starts.append(partition.start_offset)
        else:
            starts.append(partition.offset_for_time(found.timestamp_ms))
    return _vector(partitions, starts)


def _after_position(text: str, partitions: list[Partition], epoch: str) -> Vector:
    try:
        tag, time_s, seen = decode_position(text)
    except BadPosition as error:
        raise Problem(
            400, "position-invalid",
            f"from and Last-Event-ID take latest, earliest, an id or an RFC 3339 time: {error}",
        ) from None
    if tag != epoch_tag(epoch):
        raise Problem(410, "position-lost", "the id is of a log that is not there any more; begin with from=earliest")
    starts = []
    for partition in partitions:
        offsets = seen.get(partition.stream, [])
        if partition.index < len(offsets):
            starts.append(min(offsets[partition.index], partition.next_offset))     # a log may lose an unsynced end
        else:
            starts.append(partition.offset_for_time(time_s * 1000))                 # newer than the id
    return _vector(partitions, starts)


def _vector(partitions: list[Partition], starts: list[int]) -> Vector:
    """Index in each list = partition. All partitions of a stream are there, in order."""
    vector: Vector = {}
    for partition, start in zip(partitions, starts):
        vector.setdefault(partition.stream, []).append(start)
    return vector
