"""Streams: receivers that read the log from a place of their own and take nothing out of it.

    /queues/log        of type stream: AMQP 0-9-1 keeps which topics it has. From where the filter says, or now.
    topic://plant/#    with a filter that says where to begin: offsets.py

What is said of a delivery only makes room for the next one. A message has its offset as annotation x-stream-offset.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from protocols.amqp import convert
from protocols.amqp.codec.composite import Composite
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.sources.reading import QueueReader
from protocols.amqp.nodes.work import Work
from routing.consumers.consumer import Consumer, Member
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec, Start
from routing.cursors.delivery import Delivery
from routing.errors import Refusal
from routing.event import Event
from routing.queues.predicates import Predicate
from routing.rights.policy import Identity
from routing.router import Router
from routing.ticket import Ticket


def read_topic(router: Router, pattern: str, start: Start, identity: Identity, in_flight: int) -> Consumer | Refusal:
    """A place of its own in what the filter matches. in_flight: deliveries that wait for an answer, at most."""
    return router.open_consumer(ConsumerSpec(
        f"amqp/stream/{secrets.token_urlsafe(12)}", (pattern,), Mode.EXCLUSIVE, start, durable=False,
        max_in_flight=in_flight), identity)


class StreamReading:
    """In the place of a queue: what reading.py and nodes/work.py ask of one."""

    def __init__(self, router: Router, consumer: Consumer, leave: Callable[[], object]) -> None:
        """leave: the reader has gone."""
        self.name = consumer.name
        self.consumer = consumer
        self._router = router
        self._leave = leave
        self._idle: list[Callable[[], None]] = []

    @property
    def is_deleted(self) -> bool:
        return self.consumer.closed

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def nack(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def reject(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def detach(self, member: Member) -> None:
        self._leave()

    def when_looked_through(self, member: Any, call: Callable[[], None]) -> None:
        self.when_idle(call)

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once all that was published before is delivered. Several times for one drain is as good as once."""
        ticket = Ticket(())
        for partition in self.consumer.cursors:
            partition.join(ticket)
        ticket.part_done()

        def committed(_: Ticket) -> None:
            self._idle.append(call)
            self.look()

        ticket.on_done(committed)

    def look(self) -> None:
        """Has it come to the end? Asked while it reads, and whenever it may read on."""
        if not self._idle:
            return
        consumer = self.consumer
        if not consumer.closed and any(
                cursor.waiting or cursor.behind or cursor.again for cursor in consumer.cursors.values()):
            if consumer.members.credit() > 0 and consumer.room() > 0:
                consumer.ready()
                self._router.call_soon(self.look)
            return
        idle, self._idle = self._idle, []
        for call in idle:
            call()


class StreamReader(QueueReader):
    """The member, and SourceNode of the link."""

    __slots__ = ("_predicate", "_reading")

    def __init__(self, link: SendingLink, reading: StreamReading, identity: Identity, router: Router, work: Work,
                 transactions: Any, predicate: Predicate | None, *, notes: convert.Marks | None,
                 marks: convert.Marks = convert.offset_mark) -> None:
        """predicate: what it wants of what it reads. notes, marks: as in convert.outward()."""
        super().__init__(link, reading, identity, router, work, transactions, notes=notes, marks=marks)
        self._reading = reading
        self._predicate = predicate

    def credit_changed(self) -> None:
        super().credit_changed()
        self._reading.look()

    def settle(self, held: Delivery, state: Composite | None, *, settled: bool) -> None:
        super().settle(held, state, settled=settled)
        self._work.when_flushed(self._reading.look)

    def accepted(self, held: list[Delivery]) -> None:
        super().accepted(held)
        self._work.when_flushed(self._reading.look)

    def wants(self, event: Event) -> bool:
        return self._predicate is None or self._predicate.matches(event)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        if self._predicate is not None:
            wanted = [delivery for delivery in deliveries if self.wants(delivery.event)]
            if len(wanted) < len(deliveries):
                kept = {id(delivery) for delivery in wanted}
                consumer.ack([delivery for delivery in deliveries if id(delivery) not in kept])
            deliveries = wanted
        if deliveries:
            super().deliver(consumer, deliveries)
        else:
            self.credit = self.link.room()
            consumer.ready()
