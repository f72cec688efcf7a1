"""Who has dead letters: a row per consumer that gave something up, or that may."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from protocols.redrive import Redrives, topic_of
from routing.consumers.registry.asleep import Asleep

if TYPE_CHECKING:
    from routing.router import Router


def deadletter_rows(router: Router, redrives: Redrives) -> Iterator[dict[str, Any] | None]:
    """None: a step without a row."""
    for consumer in list(router.consumers.values()):
        if isinstance(consumer, Asleep) and consumer.spec.max_deliveries is None:
            yield None                      # it has given nothing up since the start
            continue
        if consumer.closed or not consumer.spec.durable:
            yield None
            continue
        if consumer.spec.max_deliveries is None and not consumer.dead_lettered:
            yield None                      # it never gives up: most do not, and there may be 100,000 of them
            continue
        waiting = 0
        for count in redrives.waiting(consumer):
            waiting += count
            yield None
        redrive = redrives.of(consumer)
        if waiting <= 0 and not consumer.dead_lettered and redrive is None:
            yield None
            continue
        yield {
            "consumer": consumer.name, "topic": topic_of(consumer), "waiting": max(waiting, 0),
            "given_up": consumer.dead_lettered, "max_deliveries": consumer.spec.max_deliveries,
            "user": consumer.identity.user, "redrive": redrive.shown() if redrive is not None else None,
            "state": redrive.state if redrive is not None and redrive.state == "running" else
            "waiting" if waiting > 0 else "none",
        }
