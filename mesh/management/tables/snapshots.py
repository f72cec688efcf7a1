"""What the node looks like now, as plain values for JSON and for metrics. Reads the routing core, changes nothing."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from protocols.formats.event_json import rfc3339
from routing.settings import StreamSettings

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.log.store import LocalStore
    from routing.router import Router
    from routing.streams.streams import Stream

Values = dict[str, Any]


def partition_snapshot(partition: Partition) -> Values:
    return {
        "partition": partition.index, "start_offset": partition.start_offset, "end_offset": partition.end_offset,
        "next_offset": partition.next_offset, "size_bytes": partition.size_bytes, "segments": partition.segment_count,
        "kept_events": partition.kept.events, "kept_bytes": partition.kept.size_bytes,
        "failed": partition.failed.text if partition.failed is not None else None,
        "damage": [str(damage) for damage in partition.damage],
    }


def stream_snapshot(stream: Stream) -> Values:
    partitions = [partition_snapshot(partition) for partition in stream.partitions]
    failed = [part["failed"] for part in partitions if part["failed"] is not None]
    settings: StreamSettings = stream.settings
    return {
        "name": stream.name, "capture": list(settings.capture), "partitions": len(partitions),
        "events": sum(part["end_offset"] - part["start_offset"] for part in partitions),
        "size_bytes": sum(part["size_bytes"] for part in partitions),
        "kept_events": sum(part["kept_events"] for part in partitions),
        "kept_bytes": sum(part["kept_bytes"] for part in partitions),
        "durability": settings.durability.value, "compact": settings.compact,
        "retention_ms": settings.retention_ms, "retention_bytes": settings.retention_bytes,
        "failed": failed[0] if failed else None, "detail": partitions,
    }


def stream_rows(router: Router) -> Iterator[Values]:
    for stream in list(router.streams):
        yield stream_snapshot(stream)


def denial_rows(router: Router) -> Iterator[Values]:
    """The latest denials; those of a flood are counted and not all listed."""
    for denial in list(router.policy.denials):
        yield {**denial, "time": rfc3339(int(denial["time_ms"]))}


def failed_partitions(store: LocalStore) -> list[str]:
    """Why the node is not healthy: one line per partition that stopped, internal ones too. Empty when all is well."""
    return [
        f"{partition.stream}/{partition.index}: {partition.failed.text}"
        for partition in store.partitions if partition.failed is not None
    ]


def damaged_places(store: LocalStore) -> list[str]:
    """What recovery or a reader found to be damaged. The rest is served, so the node counts as healthy."""
    return [str(damage) for partition in store.partitions for damage in partition.damage]
