"""Checkpoints: which consumers do not stand where they are stored to stand, and when they are stored.

Some in each tick, so that a crash repeats at most CHECKPOINT_S of acks; those that wait for it, at once.
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from routing.consumers.consumer import Consumer
from routing.consumers.registry.stored import StoredConsumers
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition

CHECKPOINT_S = 0.25         # how much acked work a crash may repeat
CHECKPOINT_TURN_S = 0.003   # of one turn, and no more than
CHECKPOINTS_PER_TICK = 500  # consumers stored per tick, so that 10,000 busy ones do not stall the loop
ENDS_S = 5.0                # how often the ends are stored up to which quiet consumers have read


class Checkpoints:
    """Of one registry."""

    def __init__(self, stored: StoredConsumers, clock_s: Callable[[], float],
                 partitions: Callable[[], list[Partition]], all_awake: Callable[[], bool]) -> None:
        """partitions: those of the configured streams. all_awake: else the ends say nothing of those who sleep."""
        self.dirty: dict[Consumer, None] = {}           # in the order in which they became so
        self._changed: set[Consumer] = set()            # among the dirty: what they are is to be stored, too
        self._stored = stored
        self._clock_s = clock_s
        self._partitions = partitions
        self._all_awake = all_awake
        self._next_s = 0.0
        self._next_ends_s = 0.0

    def changed(self, consumer: Consumer) -> None:
        """Its options, filters or the like are not what is stored."""
        if consumer.spec.durable:
            self._changed.add(consumer)
            self.dirty[consumer] = None

    def forget(self, consumer: Consumer) -> None:
        """It is gone, or stored as it is."""
        self.dirty.pop(consumer, None)
        self._changed.discard(consumer)

    def store(self, consumer: Consumer) -> Ticket | None:
        """Store a durable consumer in the commit of this turn: where it stands and, when that changed, what it is."""
        self.dirty.pop(consumer, None)
        if not consumer.spec.durable or consumer.closed:
            return None
        if not consumer.attachment.gives:
            consumer.attachment.stored = False
        if consumer in self._changed:
            self._changed.discard(consumer)
            self._stored.put_consumer(consumer)
        return self._stored.put_cursors(consumer)

    def tick(self, now_s: float) -> None:
        if now_s < self._next_s:
            return
        until_s = self._clock_s() + CHECKPOINT_TURN_S
        for consumer in list(islice(self.dirty, CHECKPOINTS_PER_TICK)):
            self.store(consumer)
            if self._clock_s() > until_s:
                break
        if not self.dirty:
            self._next_s = now_s + CHECKPOINT_S
            if now_s >= self._next_ends_s and self._all_awake() and self._stored.put_ends(self._partitions()):
                self._next_ends_s = now_s + ENDS_S
