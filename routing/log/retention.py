"""Which segments of a partition are past their time: pure decisions, taken by partition.py on the loop.

Whole segments only, from the oldest on, and never the active one: a segment goes when every event in it is older
than the limit, or when the rest of the partition still has as many bytes as are to be kept (as in Kafka). Ages are
in steady time (routing/clock.py).
"""
from __future__ import annotations

from collections.abc import Sequence

from routing.log.segments.mark import UNKNOWN
from routing.log.segments.segment import Segment
from routing.settings import StreamSettings


def expired_count(segments: Sequence[Segment], settings: StreamSettings, steady_ms: int, trimmed_to: int = 0) -> int:
    """How many of the oldest segments may be deleted. trimmed_to: records before it were deleted by request."""
    count = 0
    size = sum(segment.size for segment in segments) if settings.retention_bytes is not None else 0
    for segment in segments[:-1]:
        if segment.next_offset > trimmed_to and not (
                _is_too_old(segment, settings, steady_ms) or _is_too_much(segment, settings, size)):
            break
        size -= segment.size
        count += 1
    return count


def should_roll(active: Segment, settings: StreamSettings, steady_ms: int) -> bool:
    """True when the active segment must be sealed because of its age, so that retention can get at it."""
    if active.opened_ms == UNKNOWN or active.record_count == 0:
        return False
    return steady_ms - active.opened_ms >= settings.segment_ms or _is_too_old(active, settings, steady_ms)


def _is_too_old(segment: Segment, settings: StreamSettings, steady_ms: int) -> bool:
    # By the append, not by what events say of themselves: one from the future would keep a segment for ever, and a
    # wall clock that jumps would empty the log.
    return (
        settings.retention_ms is not None
        and segment.appended_ms != UNKNOWN
        and steady_ms - segment.appended_ms > settings.retention_ms
    )


def _is_too_much(segment: Segment, settings: StreamSettings, size: int) -> bool:
    return settings.retention_bytes is not None and size - segment.size >= settings.retention_bytes
