"""What the router learns from the tail of the log at start: dedupe ids, open QoS 2 packet ids, retained events.

The ids are stored with their events, so that one group commit covers event and id: there is no moment at which the
event is durable and its id is not.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from routing.event import Event
from routing.log.records.fields import OURS
from routing.publishing.dedupe import Windows
from routing.streams.streams import StreamTable

if TYPE_CHECKING:
    from routing.log.partition import Partition

TAIL_RECORDS = 50_000       # per partition; far more than publishers can have in flight when a node dies

Place: TypeAlias = tuple[str, int, int]                     # stream, partition, offset
PacketIds: TypeAlias = dict[str, dict[int, list[Place]]]    # client id → packet id → its latest place per partition


def read_tail(streams: StreamTable, windows: Windows, retain: Callable[[Event], None],
              letter: Callable[[Event, int], None]) -> PacketIds:
    """Fill the windows, call retain with retained events and letter with dead letters (and the time of the newest
    record of their partition); return the QoS 2 publishes of the tail.

    A packet id may stand in several partitions.
    """
    packet_ids: PacketIds = {}
    for stream in streams:
        for partition in stream.partitions:
            offset = tail_offset(partition)
            newest_ms = partition.segments[-1].max_timestamp
            if newest_ms < 0 and len(partition.segments) > 1:           # just rolled
                newest_ms = partition.segments[-2].max_timestamp
            while offset < partition.end_offset:
                found = partition.scan(offset, lambda _: True, max_events=4_096, max_scanned=4_096, mark=OURS)
                for event in found.events:
                    if event.retain:
                        retain(event)
                    if event.properties is not None and event.origin is None:    # ids count where they came in
                        _note(event, windows, packet_ids)
                        if event.properties.dead_letter is not None:
                            letter(event, newest_ms)
                offset = found.next_offset
    return packet_ids


def tail_offset(partition: Partition) -> int:
    """An offset behind which the last TAIL_RECORDS records stand, or little more than those.

    Records are counted, not offsets: a crash may leave a wide gap of unused offsets (see the log's recovery).
    """
    def records(offset: int) -> int:
        return partition.count(offset, lambda topic: True)

    width = TAIL_RECORDS
    few = partition.end_offset
    while (many := partition.end_offset - width) > partition.start_offset and records(many) < TAIL_RECORDS:
        few = many
        width *= 2
    many = max(many, partition.start_offset)
    while few - many > TAIL_RECORDS:
        middle = (few + many) // 2
        if records(middle) < TAIL_RECORDS:
            few = middle
        else:
            many = middle
    return many


def _note(event: Event, windows: Windows, packet_ids: PacketIds) -> None:
    properties = event.properties
    assert properties is not None
    if properties.mqtt_packet_id is not None:
        place = (event.partition.stream, event.partition.index, event.offset)
        places = packet_ids.setdefault(event.publisher, {}).setdefault(properties.mqtt_packet_id, [])
        if places and places[-1][:2] == place[:2]:
            places.pop()
        places.append(place)
    if properties.dedupe_id is not None:
        windows.recover(event, properties.dedupe_id)
