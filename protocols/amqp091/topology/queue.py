"""A queue as its clients see it, over the Consumer that it is in the core.

This file is the only one that touches the core's side of a queue.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from protocols.amqp091.codec.tables import Table
from protocols.amqp091.topology.arguments import QUORUM, QueueOptions
from protocols.amqp091.topology.names import queue_topic
from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.members import Member, Mode
from routing.cursors.cursor import Delivery
from routing.errors import Refusal
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.router import Router

IN_FLIGHT_MAX = 100_000         # unacked messages of all readers of a queue; what is beyond stays in the log


class Queue:
    """owner: the connection that has it for itself (exclusive), None: anybody may use it."""

    __slots__ = ("_router", "arguments", "auto_delete", "consumer", "durable", "exclusive_reader", "had_reader", "name",
                 "options", "owner", "readers", "user")

    def __init__(self, name: str, durable: bool, auto_delete: bool, arguments: Table, options: QueueOptions,
                 user: str, owner: Any, router: Router, consumer: Consumer) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.options = options
        self.user = user
        self.owner = owner
        self.consumer = consumer
        self.readers = 0                    # consumers of clients, not those of basic.get
        self.exclusive_reader = False
        self.had_reader = False
        self._router = router

    @property
    def alive(self) -> bool:
        return not self.consumer.closed

    @property
    def is_quorum(self) -> bool:
        return self.options.type == QUORUM

    def ready_count(self) -> int:
        """Messages that wait to be delivered, as far as that is known."""
        total = 0
        for cursor in self.consumer.cursors.values():
            total += len(cursor.waiting) + len(cursor.again) + len(cursor.delayed)
            if cursor.behind:
                total += max(cursor.partition.end_offset - cursor.position, 0)
        untracked = self.consumer.untracked
        return total + (len(untracked) if untracked is not None else 0)

    def attach(self, member: Member, priority: int = 0) -> Refusal | None:
        """priority: a reader of a lower one gets what no other takes."""
        return self.consumer.attach(member)

    def detach(self, member: Member) -> None:
        self.consumer.detach(member)

    def is_idle(self) -> bool:
        """Nothing is left to be delivered to whoever has credit."""
        consumer = self.consumer
        if consumer.spec.durable and not consumer.attachment_stored:
            return False
        return all(not cursor.waiting and not cursor.behind and not cursor.again
                   for cursor in consumer.cursors.values())

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def requeue(self, delivery: Delivery) -> None:
        self.consumer.nack(delivery, 0.0)

    def reject(self, delivery: Delivery) -> None:
        """It is not wanted back: to the dead-letter exchange, or gone."""
        self.consumer.ack([delivery])

    def expire(self, deliveries: list[Delivery]) -> None:
        """Their time is over."""
        self.consumer.ack(deliveries)

    def purge(self) -> int:
        count = self.ready_count()
        self.consumer.seek({cursor.partition: cursor.partition.next_offset
                            for cursor in self.consumer.cursors.values()})
        return count

    def bind(self, pattern: str, identity: Identity) -> Refusal | None:
        return self.consumer.add_filter(pattern, identity)

    def unbind(self, pattern: str) -> None:
        self.consumer.remove_filter(pattern)

    def store(self) -> None:
        """Its state goes to the disk with what else is stored in this turn."""
        self.consumer.checkpoint()

    def delete(self, reason: str) -> None:
        self._router.delete_consumer(self.consumer.name)


def consumer_name(queue: str) -> str:
    """The name of its consumer: one with a slash belongs to a session of some protocol, so there is none in it."""
    return queue.replace("%", "%25").replace("/", "%2F")


def open_consumer(router: Router, name: str, durable: bool, options: QueueOptions,
                  identity: Identity) -> Consumer | Refusal:
    """Make the consumer of a queue."""
    spec = ConsumerSpec(
        consumer_name(name), (queue_topic(name),), Mode.FAILOVER if options.single_active else Mode.SHARED, "latest",
        durable=durable, max_in_flight=IN_FLIGHT_MAX, max_deliveries=_deliveries(options),
        expires_s=options.expires_ms / 1000 if options.expires_ms is not None else None)
    consumer = router.open_consumer(spec, identity)
    if isinstance(consumer, Consumer):
        consumer.keep_untracked()
    return consumer


def _deliveries(options: QueueOptions) -> int | None:
    limit = options.delivery_limit
    return limit + 1 if limit is not None and limit >= 0 else None


OnGone = Callable[[Queue], None]
