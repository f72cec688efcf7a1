"""Scheduled: an event that is to be delivered later is taken back from the queues that would get it."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from routing.consumers.leases import AHEAD_MAX

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.log.partition import Partition
    from routing.publishing.route import RouteTable


class Core(Protocol):
    """What this needs of the router."""

    clock_ms: Callable[[], int]
    routes: RouteTable


def cancel(router: Core, topic: str, index: int, offset: int) -> list[Consumer]:
    """Take the event at this place back, if it is one of the topic and not due yet, from the queues of this node.

    Returns those that would have got it. It outlives a kill when they have their checkpoint.
    """
    route = router.routes.of(topic)
    if route.stream is None or index >= len(route.stream.partitions):
        return []
    partition = route.stream.partitions[index]
    return [consumer for consumer in route.consumers
            if consumer.is_queue and _take_back(consumer, partition, topic, offset, router.clock_ms())]


def _take_back(consumer: Consumer, partition: Partition, topic: str, offset: int, now_ms: int) -> bool:
    cursor = consumer.cursors.get(partition)
    if cursor is None or not cursor.start_offset <= offset < partition.end_offset or offset in cursor.ahead:
        return False
    event = cursor.event(offset)
    at_ms = event.properties.deliver_at_ms if event is not None and event.properties is not None else None
    if event is None or event.topic != topic or at_ms is None or at_ms <= now_ms:
        return False
    waits = cursor.delayed.get(offset) or cursor.again.get(offset)
    if waits is not None:
        consumer.ack((waits,))
        return True
    if offset < cursor.position:
        left = len(cursor.waiting)
        cursor.drop_waiting(lambda one: one.offset == offset)
        if len(cursor.waiting) == left:                 # given out, or taken back before
            return False
    if len(cursor.ahead) >= AHEAD_MAX:
        return False
    cursor.ahead.add(offset)
    consumer.settled(1, len(event.payload))
    return True
