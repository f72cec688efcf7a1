"""Which segments of a partition are past their time: pure decisions, taken by partition.py on the loop.

Whole segments only, from the oldest on, and never the active one: a segment goes when every event in it is older
than the limit, or when the rest of the partition still has as many bytes as are to be kept (as in Kafka).
"""
from __future__ import annotations

from collections.abc import Sequence

from routing.log.segment import Segment
from routing.settings import StreamSettings


def expired_count(segments: Sequence[Segment], settings: StreamSettings, now_ms: int) -> int:
    """How many of the oldest segments may be deleted."""
    count = 0
    size = sum(segment.size for segment in segments)
    for segment in segments[:-1]:
        if not (_is_too_old(segment, settings, now_ms) or _is_too_much(segment, settings, size)):
            break
        size -= segment.size
        count += 1
    return count


def should_roll(active: Segment, settings: StreamSettings, now_ms: int) -> bool:
    """True when the active segment must be sealed because of its age, so that retention can get at it."""
    if active.first_timestamp < 0 or active.record_count == 0:
        return False
    return now_ms - active.first_timestamp >= settings.segment_ms or _is_too_old(active, settings, now_ms)


def _is_too_old(segment: Segment, settings: StreamSettings, now_ms: int) -> bool:
    # A segment without any timestamp (a Kafka producer may send none) has no age; bytes still bound it.
    return (
        settings.retention_ms is not None
        and segment.max_timestamp >= 0
        and now_ms - segment.max_timestamp > settings.retention_ms
    )


def _is_too_much(segment: Segment, settings: StreamSettings, size: int) -> bool:
    return settings.retention_bytes is not None and size - segment.size >= settings.retention_bytes
