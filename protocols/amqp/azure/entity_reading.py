"""EntityReader: a receiver's link to a queue or subscription of Service Bus.

    accepted     complete               rejected                               to the dead letters, with the reason
    released     as if not delivered    modified, delivery-failed              abandon: again, counted
                                        modified, undeliverable-here           defer: waits for who asks by number

A message is locked as long as its link is there: the delivery-tag is its lock token. Sequence numbers are places in the
log. What is dead-lettered or deferred is so in one step with the ack, whenever the node is killed.
"""
from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from protocols.amqp.azure.entities import DEAD_LETTERS, DEFERRED, Entities
from protocols.amqp.changing import changed
from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import LinkFault
from protocols.amqp.codec.performatives import Error, Modified, Rejected
from protocols.amqp.codec.types import Symbol, Timestamp, Value
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.addresses import address_of, queue_name, queue_topic
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.sources.reading import QueueReader
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery
from routing.event import Event
from routing.queues.queue import Queue
from routing.rights.policy import Identity
from routing.router import Router

NUMBER = "x-opt-sequence-number"
REASON, DESCRIPTION = "DeadLetterReason", "DeadLetterErrorDescription"
ALWAYS_MS = 253_402_243_199_000     # a time in the year 9999 that every SDK can show
_NUMBER, _TIME, _UNTIL = Symbol(NUMBER), Symbol("x-opt-enqueued-time"), Symbol("x-opt-locked-until")
_SOURCE = Symbol("x-opt-deadletter-source")
_REASON_CHARS_MAX = 4_096           # Source: Service Bus, dead-letter queues


def number_of(event: Event) -> int:
    """Its sequence number: one of the stream's own. A deferred message keeps the one it had."""
    for name, value in reversed(event.headers):
        if name == NUMBER and isinstance(value, int):
            return value
    partition = event.partition
    return event.offset * 1_000 + partition.index + 1 if partition is not None else event.offset + 1


def place_of_number(number: int) -> tuple[int, int]:
    """Partition and offset of what was never deferred."""
    return (number - 1) % 1_000, (number - 1) // 1_000


def entity_marks(event: Event) -> dict[Value, Value]:
    return {_NUMBER: number_of(event), _TIME: Timestamp(event.timestamp_ms), _UNTIL: Timestamp(ALWAYS_MS)}


class EntityReader(QueueReader):
    """Member of the queue, and SourceNode of the link."""

    __slots__ = ("_entities", "_queue")

    def __init__(self, link: SendingLink, queue: Queue, identity: Identity, router: Router, parts: Parts,
                 entities: Entities, *, default_outcome: Composite | None) -> None:
        super().__init__(link, queue, identity, router, parts.work, parts.transactions,
                         default_outcome=default_outcome, marks=entity_marks, counted=True,
                         tag=lambda delivery: uuid4().bytes_le)
        self._queue = queue
        self._entities = entities

    def conclude(self, held: Delivery, state: Composite | None) -> None:
        if self._queue.is_deleted:
            return
        if type(state) is Rejected:
            dead_letter(self._router, self._work.publisher, self._queue, held, state.error)
        elif type(state) is Modified and state.undeliverable_here:
            self.defer(held)
        else:
            super().conclude(held, state)

    def defer(self, held: Delivery) -> None:
        try:
            deferred = self._entities.queue(queue_name(self._queue.name) + DEFERRED, self.identity)
        except LinkFault:                               # no right to it
            super().conclude(held, Modified(True))
            return
        event = held.event
        headers = (*event.headers, (NUMBER, number_of(event)))
        move(self._router, self._work.publisher, self._queue, held, Event(
            deferred.topic, event.payload, 1, event.publisher, event.key, headers, event.properties))


def dead_letter(router: Router, publisher: Any, queue: Queue, held: Delivery, error: Error | None, *,
                of: str = "") -> None:
    """To the dead letters beside the queue, with the reason as properties; those of another queue go its own way.

    of: the entity whose dead letters they are, where it is not this queue.
    """
    name = (of or queue_name(queue.name)) + DEAD_LETTERS
    if not of and queue.options.dead_letter != queue_topic(name):
        queue.reject([held])
        return
    info = error.info if error is not None and error.info else {}
    told: dict[Value, Value] = {}
    for key, other in ((REASON, error.condition if error is not None else None),
                       (DESCRIPTION, error.description if error is not None else None)):
        value = info.get(key, other)
        if isinstance(value, str) and value:
            told[key] = str(value)[:_REASON_CHARS_MAX]
    event = changed(
        held.event, router.clock_ms(), router.ledger.lost, address_of, properties=told,
        annotations={_SOURCE: of or queue_name(queue.name)})
    event.topic = queue_topic(name)
    move(router, publisher, queue, held, event)


def move(router: Router, publisher: Any, queue: Queue, held: Delivery, event: Event) -> None:
    """Publish the one and ack the other in one step; where that is refused it goes out again."""
    def decided(ticket: Any) -> None:
        if ticket.refusals and not queue.is_deleted:
            queue.nack([held])

    router.together.commit([], publisher, [(queue.consumer, [held])], [event]).on_done(decided)


# -- by number --------------------------------------------------------------------------------------------------------

class Locked:
    """A member that holds deferred messages which somebody has asked for by number, until they are settled."""

    def __init__(self, queue: Queue, identity: Identity, count: int) -> None:
        self.identity = identity
        self.queue = queue
        self.credit = 0
        self.demand = count
        self.held: dict[UUID, Delivery] = {}

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self.demand -= len(deliveries)
        self.held.update({uuid4(): delivery for delivery in deliveries})

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.held.clear()

    def leave(self) -> None:
        if not self.queue.is_deleted:
            self.queue.detach(self)

