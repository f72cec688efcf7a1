"""What basic.get has taken from one queue and not acked. One per channel and queue."""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.cursors.delivery import Delivery
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue
    from routing.consumers.consumer import Consumer


class Getter:
    """Member of a consumer of the core that is never attached."""

    __slots__ = ("credit", "identity", "queue")

    def __init__(self, queue: Queue, identity: Identity) -> None:
        self.queue = queue
        self.identity = identity
        self.credit = 0

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        raise AssertionError("a getter is not attached")

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        return

    def end(self) -> None:
        if self.queue.alive:
            self.queue.core.release(self)
