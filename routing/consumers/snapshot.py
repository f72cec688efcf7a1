"""A consumer's state as operators see it: plain values, for the management API and REST."""
from __future__ import annotations

from typing import Any

from routing.consumers.consumer import Consumer


def snapshot(consumer: Consumer) -> dict[str, Any]:
    """Counts what is not known of its lag from now on: ask again."""
    lag = consumer.lag()
    return {
        "name": consumer.name, "mode": consumer.spec.mode.value, "durable": consumer.spec.durable,
        "user": consumer.identity.user, "filters": list(consumer.filters), "members": len(consumer.members),
        "paused": consumer.paused, "in_flight": consumer.in_flight, "lag_events": lag.events,
        "lag_seconds": lag.seconds, "lag_state": lag.state, "delivered": consumer.delivered, "acked": consumer.acked,
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
