"""Where a reader begins: `from`, and the id or position of a reader that comes back, to the next offset per partition.

    latest · earliest · <position of a reader> · <id of a published event> · <RFC 3339 time> · <offset>

An id means "after that": with a position, everything before it in all partitions counts as seen; with a published
event, the events after it in its partition, and in the others those stored at its time or later. An
offset counts in every partition that is read. Sans-IO.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.formats.event_json import parse_rfc3339
from protocols.formats.location import OFFSET_MAX, BadPosition, Vector, decode_position, epoch_tag, parse_event_id

if TYPE_CHECKING:
    from routing.log.partition import Partition

OFFSET_DIGITS_MAX = 19          # 2**63 - 1; a position begins with a letter, that of its version


class StartInvalid(ValueError):
    """The text names no place. Safe to show."""


class StartLost(ValueError):
    """The place is of a log that is not there any more. Safe to show."""


def start_vector(text: str, partitions: list[Partition], epoch: str) -> Vector:
    """text: the wanted beginning. partitions: those that the reader's filters can reach.

    Raises StartInvalid, StartLost.
    """
    if text == "latest":
        return _vector(partitions, [partition.next_offset for partition in partitions])
    if text == "earliest":
        return _vector(partitions, [partition.start_offset for partition in partitions])
    if text.isascii() and text.isdigit() and len(text) <= OFFSET_DIGITS_MAX and int(text) <= OFFSET_MAX:
        return _vector(partitions, [
            min(max(int(text), partition.start_offset), partition.next_offset) for partition in partitions])
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
        raise StartInvalid("no event of these filters has the id in from")
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
        raise StartInvalid(
            f"from and Last-Event-ID take latest, earliest, an id or an RFC 3339 time: {error}") from None
    if tag != epoch_tag(epoch):
        raise StartLost("the id is of a log that is not there any more; begin with from=earliest")
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
