"""QueueReader: a receiver's link as member of a queue. What it holds goes back when the link goes. §3.4 (outcomes).

    accepted                        done                released, no state       ready again, not counted
    rejected                        dead letter         modified                 the same; counted when it says failed,
    undeliverable-here              dead letter                                  a dead letter when undeliverable here
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from protocols.amqp import convert
from protocols.amqp.changing import changed
from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import RESOURCE_DELETED, LinkFault
from protocols.amqp.codec.performatives import Accepted, Modified, Rejected, TransactionalState
from protocols.amqp.engine.sending import SendingLink, SettleLater
from protocols.amqp.nodes.addresses import address_of
from protocols.amqp.nodes.work import Readable, Work
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery
from routing.event import Properties
from routing.queues.queue import Queue
from routing.rights.policy import Identity
from routing.router import Router

ANNOTATED_BYTES_MAX = 64 * 1024     # of a message with what receivers have annotated, beside its payload
_NO_PROPERTIES = Properties()


def settle_later(link: SendingLink, queue: Queue) -> SettleLater:
    """Second settle mode: we settle, too, once what was delivered is on disk."""
    def settle(number: int, state: Composite | None) -> None:
        def say() -> None:
            if link.is_attached:
                connection: Any = link.session.connection
                connection.cork()
                link.settled(number, state)
                connection.uncork()

        if queue.consumer.has_unsynced:
            queue.when_current(say)
        else:
            link.settled(number, state)

    return settle


class QueueReader:
    """Member of a consumer of the core, and SourceNode of a link."""

    __slots__ = ("_counted", "_default", "_is_member", "_marks", "_named", "_notes", "_on_detach", "_presettled",
                 "_router", "_selects", "_tag", "_transactions", "_work", "credit", "demand", "identity", "link",
                 "queue")

    def __init__(self, link: SendingLink, queue: Readable, identity: Identity, router: Router, work: Work,
                 transactions: Any, *, default_outcome: Composite | None = None,
                 on_detach: Callable[[bool], None] | None = None, selects: bool = False,
                 named: bool = False, notes: convert.Marks | None = None, marks: convert.Marks | None = None,
                 counted: bool = False, tag: Callable[[Delivery], bytes] | None = None) -> None:
        """selects: it is a member that selects (routing/queues/selecting), with a demand in place of credit.
        named, notes, marks, counted: as in convert.outward().
        tag: makes those of deliveries, None: they are numbers. on_detach(closed): called once.
        default_outcome: of deliveries that are settled without one."""
        self.link = link
        self.queue = queue
        self.identity = identity
        self.credit = 0
        self.demand = 0
        self._selects = selects
        self._named = named
        self._notes = notes
        self._marks = marks
        self._counted = counted
        self._tag = tag
        self._presettled = link.presettled
        self._router = router
        self._work = work
        self._transactions = transactions
        self._default = default_outcome
        self._on_detach = on_detach
        self._is_member = False

    def joined(self) -> None:
        """It is a member now."""
        self._is_member = True

    # -- SourceNode -------------------------------------------------------------------------------------------

    def credit_changed(self) -> None:
        room = self.link.room()
        if self._selects:
            grown = room > self.demand
            self.demand = room
            if grown and self.link.draining:
                self.drain()
        else:
            grown = room > self.credit
            self.credit = room
        if grown:
            self.queue.consumer.ready()

    def drain(self) -> None:
        link = self.link
        if link.credit <= 0:
            link.drained()
            return

        def idle() -> None:
            if self._selects and link.credit > 0 and link.room() <= 0:
                return                                  # the window is closed, not the queue empty: see above
            if link.is_attached and link.draining:
                link.session.connection.cork()          # type: ignore[attr-defined]
                link.drained()
                link.session.connection.uncork()        # type: ignore[attr-defined]

        if self.queue.is_deleted:
            idle()
        elif self._selects:
            self.queue.when_looked_through(self, idle)
        else:
            self.queue.when_idle(idle)

    def accepted(self, held: list[Delivery]) -> None:
        self._work.all_acked(self.queue, held)

    def settle(self, held: Delivery, state: Composite | None, *, settled: bool) -> None:
        if type(state) is Accepted:
            self._work.acked(self.queue, held)
            return
        if type(state) is TransactionalState:
            self._transactions.settle(state.txn_id, self, held, state.outcome)
            return
        self.conclude(held, state)

    def conclude(self, held: Delivery, state: Composite | None) -> None:
        """Outside of a transaction, or when it is committed."""
        queue = self.queue
        if queue.is_deleted:
            return
        if state is None:
            state = self._default
        if type(state) is Accepted:
            self._work.acked(queue, held)
        elif type(state) is Rejected:
            queue.reject([held])
        elif type(state) is Modified:
            if state.message_annotations:
                self._annotate(held, state.message_annotations)
            if state.undeliverable_here:
                queue.reject([held])
            elif state.delivery_failed:
                queue.nack([held])
            else:
                queue.put_back([held])
        else:
            queue.put_back([held])

    def _annotate(self, held: Delivery, annotations: dict[Any, Any]) -> None:
        """They go with the message from now on, while it stays in memory, and into its dead letter.   Source: §3.4.5"""
        router, event = self._router, held.event
        properties = event.properties or _NO_PROPERTIES
        native = properties.native
        if native is None or native.kind == convert.NATIVE:
            made = changed(
                event, router.clock_ms(), router.ledger.lost, address_of, properties={}, annotations=annotations)
            native = made.properties.native if made.properties is not None else None
            if native is not None and len(native.data) <= ANNOTATED_BYTES_MAX + len(event.payload):
                held.event = msgspec.structs.replace(
                    event, properties=msgspec.structs.replace(properties, native=native))
                return
        router.ledger.lost("amqp10", "event", "annotations of modified")

    def detach(self, *, closed: bool) -> None:
        """What it holds goes out again, counted."""
        self.credit = self.demand = 0
        self._work.flush()
        if self._is_member and not self.queue.is_deleted:
            self.queue.detach(self)
        on_detach, self._on_detach = self._on_detach, None
        if on_detach is not None:
            on_detach(closed)

    # -- Member -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        link = self.link
        if not link.is_attached:
            return                                      # its end gives them back
        connection: Any = link.session.connection
        router = self._router
        now_ms = router.clock_ms()
        lost = router.ledger.lost
        settled, tag = self._presettled, self._tag
        connection.cork()
        messages = convert.outward_all(
            deliveries, now_ms, lost, address_of, named=self._named, notes=self._notes, marks=self._marks,
            counted=self._counted)
        if tag is None:
            link.send_all(messages, deliveries, settled=settled)
        else:
            for message, delivery in zip(messages, deliveries):
                link.send(message, delivery, settled=settled, tag=tag(delivery))
        if link.draining and link.credit <= 0:
            link.drained()
        connection.uncork()
        connection.container.count("delivered", len(deliveries))
        if settled:
            self.queue.ack(deliveries)
        if self._selects:
            self.demand = link.room()
        else:
            self.credit = link.room()

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self._is_member = False
        link = self.link
        if link.is_attached:
            link.session.connection.fail_link(link, LinkFault(RESOURCE_DELETED, reason))
