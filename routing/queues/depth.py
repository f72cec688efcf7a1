"""Depth: what is in a queue. Works for any consumer."""
from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer


class Depth(msgspec.Struct, frozen=True):
    """ready: to be delivered. unacked: delivered and not answered. exact False: what stands in the log is still being
    counted, which happens after a start only; ask again.
    """

    ready: int
    unacked: int
    exact: bool = True


def depth_of(consumer: Consumer) -> Depth:
    """Of committed events. Cost: the number of partitions, and of deliveries on their way to the dead letters."""
    ready = unacked = 0
    exact = True
    unknown = []
    for cursor in consumer.cursors.values():
        out = len(cursor.in_flight)
        ready += cursor.held() - out
        unacked += out
        if cursor.unsynced is not None:
            unacked += len(cursor.unsynced.out) - len(cursor.unsynced.answers)
        if cursor.behind:
            cursor.backlog.check(cursor.position)
            if not cursor.backlog.exact:
                unknown.append(cursor)
            ready += cursor.backlog.events
        if cursor.ahead:
            ready -= sum(offset >= cursor.position for offset in cursor.ahead)
    if unknown:
        consumer.count(unknown)
        exact = all(cursor.backlog.exact for cursor in unknown)
        if exact:
            return depth_of(consumer)
    return Depth(max(ready, 0), unacked, exact)
