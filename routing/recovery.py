"""What the router learns from the tail of the log at start: message ids and open QoS 2 packet ids.

Both are stored with their events, so that one group commit covers event and id: there is no moment at which the
event is durable and its id is not.
"""
from __future__ import annotations

from routing.dedupe import First, Windows
from routing.event import Event
from routing.streams import StreamTable

TAIL_RECORDS = 50_000       # per partition; far more than publishers can have in flight when a node dies


def read_tail(streams: StreamTable, windows: Windows) -> dict[str, dict[int, tuple[str, int, int]]]:
    """Fill the windows; return client id → packet id → (stream, partition, offset) of QoS 2 publishes."""
    packet_ids: dict[str, dict[int, tuple[str, int, int]]] = {}
    for stream in streams:
        for partition in stream.partitions:
            offset = max(partition.start_offset, partition.end_offset - TAIL_RECORDS)
            while offset < partition.end_offset:
                found = partition.scan(offset, lambda _: True, max_events=4_096, max_scanned=4_096)
                for event in found.events:
                    if event.properties is not None:
                        _note(event, windows, packet_ids)
                offset = found.next_offset
    return packet_ids


def _note(event: Event, windows: Windows, packet_ids: dict[str, dict[int, tuple[str, int, int]]]) -> None:
    properties = event.properties
    assert properties is not None
    if properties.mqtt_packet_id is not None:
        place = (event.partition.stream, event.partition.index, event.offset)
        packet_ids.setdefault(event.publisher, {})[properties.mqtt_packet_id] = place
    if properties.message_id is not None:
        windows.of(event.publisher).remember(properties.message_id, First(event.offset, event.partition))
