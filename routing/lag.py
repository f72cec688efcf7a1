"""How far a consumer is behind: exact, in events and in seconds. And its state as operators see it."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from routing.consumer import Consumer
    from routing.cursor import Cursor

PEEK_SCANNED = 4_096        # records looked at to find the first event that a reader behind has not taken


class Lag(msgspec.Struct, frozen=True):
    """events: matching events not acked. seconds: age of the first of them, 0 when there is none."""

    events: int
    seconds: float


def count_unacked(consumer: Consumer) -> int:
    """Count from scratch: what is in memory, and what the log holds beyond it (by its summaries of topics)."""
    return sum(
        cursor.held() + (_count_in_log(consumer, cursor) if cursor.behind else 0)
        - sum(offset >= cursor.position for offset in cursor.ahead)
        for cursor in consumer.cursors.values()
    )


def _count_in_log(consumer: Consumer, cursor: Cursor) -> int:
    if not consumer.interest.fresh:
        return cursor.partition.count(cursor.position, consumer.wants)
    count, position = 0, cursor.position        # a filter that was added later does not reach back: look at each
    while position < cursor.partition.end_offset:
        found = cursor.partition.scan(position, consumer.wants, max_events=PEEK_SCANNED, max_scanned=PEEK_SCANNED)
        count += sum(map(consumer.interest.wants_event, found.events))
        position = found.next_offset
    return count


def lag_of(consumer: Consumer, now_ms: int) -> Lag:
    events = consumer.unacked()
    if not events:
        return Lag(0, 0.0)
    stamps = [stamp for cursor in consumer.cursors.values() if (stamp := _first_unacked_ms(consumer, cursor))]
    return Lag(events, max(now_ms - min(stamps), 0) / 1000 if stamps else 0.0)


def _first_unacked_ms(consumer: Consumer, cursor: Cursor) -> int | None:
    event = cursor.first_unacked()
    position = cursor.position
    while event is None and cursor.behind and position < cursor.partition.end_offset:
        found = cursor.partition.scan(position, consumer.wants, max_events=1, max_scanned=PEEK_SCANNED)
        event = found.events[0] if found.events else None
        position = found.next_offset
    return event.timestamp_ms if event is not None else None


def snapshot(consumer: Consumer, now_ms: int) -> dict[str, Any]:
    """For the management API."""
    lag = lag_of(consumer, now_ms)
    return {
        "name": consumer.name, "mode": consumer.spec.mode.value, "durable": consumer.spec.durable,
        "user": consumer.identity.user, "filters": list(consumer.filters), "members": len(consumer.members),
        "paused": consumer.paused, "in_flight": consumer.in_flight, "lag_events": lag.events,
        "lag_seconds": lag.seconds, "delivered": consumer.delivered, "acked": consumer.acked,
        "redelivered": consumer.redelivered, "dead_lettered": consumer.dead_lettered, "dropped": consumer.dropped,
        "cursors": [
            {
                "stream": cursor.partition.stream, "partition": cursor.partition.index, "position": cursor.position,
                "end": cursor.partition.end_offset, "behind": cursor.behind,
                "unacked": len(cursor.in_flight) + len(cursor.again) + len(cursor.delayed),
            }
            for cursor in consumer.cursors.values()
        ],
    }
