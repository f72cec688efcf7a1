"""A consumer's state as operators see it: plain values, for the management API and REST."""
from __future__ import annotations

from typing import Any

import msgspec

from routing.consumers.consumer import Consumer
from routing.consumers.definition.spec import ConsumerSpec
from routing.queues.depth import depth_of
from routing.queues.options import QueueOptions


def snapshot(consumer: Consumer) -> dict[str, Any]:
    """Counts what is not known of its lag from now on: ask again."""
    lag = consumer.lag()
    depth = depth_of(consumer)
    spec = consumer.spec
    options = spec.queue
    return {
        "name": consumer.name, "kind": "queue" if options is not None else "consumer",
        "mode": spec.mode.value, "durable": spec.durable,
        "user": consumer.identity.user, "filters": list(consumer.filters), "members": len(consumer.members),
        "paused": consumer.paused, "in_flight": consumer.in_flight, "lag_events": lag.events,
        "lag_seconds": lag.seconds, "lag_state": lag.state, "delivered": consumer.delivered, "acked": consumer.acked,
        "redelivered": consumer.redelivered, "dead_lettered": consumer.dead_lettered, "dropped": consumer.dropped,
        "expired": consumer.expired, "ready": depth.ready, "unacked": depth.unacked,
        "limits": limits_of(options, spec) if options is not None else {},
        "cursors": [
            {
                "stream": partition.stream, "partition": partition.index, "position": cursor.position,
                "end": partition.end_offset, "behind": cursor.behind,
                "unacked": len(cursor.in_flight) + len(cursor.again) + len(cursor.delayed),
            }
            for partition, cursor in consumer.cursors.items()
        ],
    }


def limits_of(options: QueueOptions, spec: ConsumerSpec) -> dict[str, Any]:
    """The options of a queue that are not the usual ones."""
    limits = {name: value for name, value in msgspec.structs.asdict(options).items()
              if name != "native" and value != getattr(_USUAL, name)}
    if spec.expires_s is not None:
        limits["expires_s"] = spec.expires_s
    if spec.max_deliveries is not None:
        limits["max_deliveries"] = spec.max_deliveries
    return limits


_USUAL = QueueOptions()
