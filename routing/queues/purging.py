"""Purge: forget what is ready. Works for any consumer."""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.queues.depth import depth_of

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer


def purge(consumer: Consumer) -> int:
    """What is in the log only is passed over, without being read. Returns how many were ready, as far as is known.

    What was published and is not committed yet goes, too, and is not counted.
    """
    ready = depth_of(consumer).ready
    for cursor in consumer.cursors.values():
        cursor.waiting.clear()
        cursor.early.clear()
        cursor.passed_by.clear()
        cursor.again.clear()
        cursor.delayed.clear()
        cursor.ahead.clear()
        cursor.skip_to(cursor.partition.next_offset)
        consumer.passed(cursor.partition)
    consumer.touch()
    consumer.ready()
    return ready
