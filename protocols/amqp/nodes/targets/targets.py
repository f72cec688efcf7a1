"""MessageTarget: a sender's link that publishes, to one place or to where each message says (anonymous terminus)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from protocols.amqp import convert
from protocols.amqp.codec.conditions import (
    DECODE_ERROR,
    NOT_FOUND,
    RESOURCE_DELETED,
    UNAUTHORIZED,
    DecodeFault,
    LinkFault,
)
from protocols.amqp.codec.performatives import RELEASED
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.engine.seams import Alike
from protocols.amqp.nodes.addresses import queue_topic
from protocols.amqp.nodes.work import Work
from protocols.declaring import Declaring
from routing.event import Event
from routing.queues.queue import Queue
from routing.router import Router


class Destination(NamedTuple):
    """queue: to be looked at whether it is there, None for topics. internal: the right was asked already."""

    topic: str
    queue: Queue | None = None
    internal: bool = False
    exchange: tuple[str, str] | None = None


class MessageTarget:
    """TargetNode of a link."""

    __slots__ = ("_declaring", "_destination", "_like", "_link", "_on_detach", "_reply_topic", "_resolve", "_router",
                 "_transactions", "_work")

    def __init__(self, link: ReceivingLink, router: Router, work: Work, transactions: Any,
                 destination: Destination | None, resolve: Callable[[str], Destination],
                 reply_topic: convert.ReplyTo, declaring: Declaring | None,
                 on_detach: Callable[[bool], None] | None = None) -> None:
        """destination None: each message says where it goes. resolve: raises LinkFault."""
        self._link = link
        self._router = router
        self._work = work
        self._transactions = transactions
        self._destination = destination
        self._resolve = resolve
        self._reply_topic = reply_topic
        self._declaring = declaring
        self._like: convert.Like | None = None          # the last message: most are like the one before
        self._on_detach = on_detach

    def take(self, delivery: Incoming, message: bytes) -> None:
        connection: Any = self._link.session.connection
        like = self._like
        if (like is not None and len(message) == like.size and like.settled is delivery.settled
                and delivery.txn_id is None and message.startswith(like.start)):
            destination = self._destination
            assert destination is not None
            if destination.queue is None or not destination.queue.is_deleted:
                self._work.add(Event(
                    destination.topic, message[len(like.start):], like.qos, connection.container_id, like.key,
                    like.headers, like.properties), delivery, internal=destination.internal)
                return
        try:
            found = convert.read(message, publisher=connection.container_id, settled=delivery.settled,
                                 now_ms=self._router.clock_ms(), topic_of=self._reply_topic)
        except DecodeFault as fault:
            self._work.reject(delivery, DECODE_ERROR, fault.text)
            return
        if not found.is_of(connection.identity.user):
            self._work.reject(delivery, UNAUTHORIZED, "user-id is not who has logged in")
            return
        destination = self._destination
        if destination is None:
            try:
                destination = self._resolve(found.to or "")
            except LinkFault as fault:
                self._work.reject(delivery, fault.condition, fault.text)
                return
        elif destination.queue is not None and destination.queue.is_deleted:
            raise LinkFault(RESOURCE_DELETED, "the queue was deleted")
        event = found.event
        event.topic = destination.topic
        copies: tuple[str, ...] = ()
        if destination.exchange is not None and self._declaring is not None:
            routed = self._declaring.route(*destination.exchange, event)
            if routed is None:
                raise LinkFault(NOT_FOUND, f"no exchange '{destination.exchange[0]}' in vhost '/'")
            if not routed.wanted and not self._router.queues.is_routable(event):
                self._work.flush()
                delivery.answer(RELEASED)               # unroutable                     Source: RabbitMQ 4
                connection.flush_answers()
                return
            copies = routed.copies
        if delivery.txn_id is not None:
            self._transactions.publish(delivery.txn_id, event, delivery, internal=destination.internal,
                                       copies=[queue_topic(name) for name in copies])
        else:
            if not self.stamp(event, delivery, message) and self._destination is not None \
                    and destination.exchange is None:
                self._like = found.like
            self._work.add(event, delivery, internal=destination.internal)
            for name in copies:
                self._work.copy(event, queue_topic(name))

    def stamp(self, event: Event, delivery: Incoming, message: bytes) -> bool:
        """Give the event a dedupe id where it may come again: resuming.py. False: it has none."""
        return False

    # -- many ---------------------------------------------------------------------------------------------------

    def alike(self) -> convert.Like | None:
        return self._like

    def knows(self, alike: Alike) -> bool:
        destination = self._destination
        return alike is self._like and destination is not None and (
            destination.queue is None or not destination.queue.is_deleted)

    def take_alike(self, alike: Any, deliveries: list[Incoming], payloads: list[bytes]) -> None:
        destination = self._destination
        assert destination is not None
        topic, qos, key, headers, properties = destination.topic, alike.qos, alike.key, alike.headers, alike.properties
        publisher = self._link.session.connection.container_id
        self._work.add_all([
            Event(topic, payload, qos, publisher, key, headers, properties) for payload in payloads], deliveries,
            internal=destination.internal)

    def detach(self, *, closed: bool) -> None:
        on_detach, self._on_detach = self._on_detach, None
        if on_detach is not None:
            on_detach(closed)

