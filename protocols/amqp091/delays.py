"""Delayed messages: those of x-delayed-message exchanges wait in one queue of the core until their time has come.

    publish, header x-delay ─► $queue/amqp091%2Fdelayed ─► due? ─► its exchange, as if published now
                                        ▲                   │ no
                                        └── nack, with the rest of the delay

So they are on disk before they are confirmed, survive kill -9 and are routed by the bindings of the moment they are
due, whatever order they came in. In memory one takes some 300 bytes. Source: rabbitmq-delayed-message-exchange.
"""
from __future__ import annotations

import logging

import msgspec

from protocols.amqp091 import convert
from protocols.amqp091.asked import Asked
from protocols.amqp091.codec.codes import AmqpError
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.codec.properties import Content, decode_properties, encode_properties
from protocols.amqp091.codec.tables import Long, encode_value, with_field
from protocols.amqp091.topology.declared import Declared
from protocols.amqp091.topology.names import topic_of
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery
from routing.errors import Reason, Refusal
from routing.event import Event, Native, Properties
from routing.queues.options import QueueOptions, straight_topic
from routing.queues.queue import Queue as CoreQueue
from routing.rights.policy import INTERNAL, Identity
from routing.router import Router
from routing.ticket import Ticket

log = logging.getLogger(__name__)

NAME = "amqp091/delayed"        # of the queue: no client can declare one with a slash
HEADER = "x-delay"              # ms
DELAY_MAX_MS = 0xFFFFFFFF       # the plugin's, some 49 days
CREDIT = 32                     # looked at in one turn: some 3 ms when all of them are due
RETRY_S = 1.0                   # when the disk did not take a message that was due
_TRY_AGAIN = (Reason.STORAGE_FULL, Reason.STORAGE_FAILED, Reason.BUSY)


class Delays:
    """Member of that queue, which is made with the first message that waits."""

    def __init__(self, router: Router, declared: Declared) -> None:
        self.identity: Identity = INTERNAL
        self.credit = CREDIT
        self._router = router
        self._declared = declared
        self._queue: CoreQueue | None = None
        self._topic = straight_topic(NAME)

    def restore(self) -> None:
        """Called once, after a start."""
        if self._router.queues.get(NAME) is not None:
            self.open()

    def open(self) -> Refusal | None:
        """Make ready for delayed messages."""
        if self._queue is None or self._queue.is_deleted:
            found = self._router.queues.declare(NAME, QueueOptions(), INTERNAL)
            if isinstance(found, Refusal):
                return found
            self._queue = found
            self.credit = CREDIT
            return found.attach(self)
        return None

    def event(self, exchange: str, key: str, raw: bytes, body: bytes, publisher: str) -> Event:
        """What is stored of a message that waits, for the node to publish. The publisher's right was asked for."""
        native = Native(convert.NATIVE, pack_short(exchange) + pack_short(key) + raw)
        return Event(self._topic, body, 1, publisher, None, (), Properties(native=native))

    # -- Member -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self.credit += len(deliveries)
        assert self._queue is not None
        due: list[Delivery] = []
        for delivery in deliveries:
            left_ms = self._left_ms(delivery.event)
            if left_ms > 0:
                self._queue.nack([delivery], left_ms / 1000)
            else:
                due.append(delivery)
        if due:
            self._release(self._queue, due)
        consumer.ready()

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        log.warning("delayed messages of AMQP 0-9-1 are gone: %s", reason)
        self._queue = None

    def _left_ms(self, event: Event) -> int:
        parts = convert.native_parts(event)
        if parts is None:
            return 0
        delay_ms = delay_of(_content(parts[2]))
        return min(event.timestamp_ms + delay_ms - self._router.clock_ms(), delay_ms)

    def _release(self, queue: CoreQueue, due: list[Delivery]) -> None:
        """Publish them now. An exchange may have gone meanwhile: then so have its messages."""
        events: list[Event] = []
        source: list[int] = []                          # index of each event → of its delivery
        for number, delivery in enumerate(due):
            found = self._routed(delivery.event)
            for index, event in enumerate(found):
                _once(event, delivery.event, index)
            events += found
            source += [number] * len(found)

        def stored(ticket: Ticket) -> None:
            if queue.is_deleted:
                return
            again = {source[index] for index, refusal in ticket.refusals.items() if refusal.reason in _TRY_AGAIN}
            queue.nack([due[number] for number in again], RETRY_S)
            queue.ack([delivery for number, delivery in enumerate(due) if number not in again])

        self._router.publish(events, self._router.internal).on_done(stored)

    def _routed(self, event: Event) -> list[Event]:
        parts = convert.native_parts(event)
        if parts is None:
            return []                                   # somebody else has published to our queue
        exchange_name, key = (part[1:].decode("utf-8", "replace") for part in parts[:2])
        exchange = self._declared.topology.exchanges.get(exchange_name)
        if exchange is None:
            return []
        content = _content(parts[2])
        content.raw_headers = with_field(content.raw_headers, HEADER, encode_value(Long(-delay_of(content))))
        raw = encode_properties(content)
        try:
            out = convert.event_of(topic_of(exchange_name, key), exchange_name, key, raw, content, event.payload,
                                   event.publisher, True, self._router.clock_ms())
        except AmqpError as error:
            log.error("a delayed message is not published: %s", error)
            return []
        topology = self._declared.topology
        targets = topology.route(exchange, key, Asked(content))
        return [out, *(Event(topology.straight_topic(name), out.payload, 1, out.publisher, out.key, out.headers,
                             out.properties) for name in targets.copies)]


def delay_of(content: Content) -> int:
    """ms; 0 when there is none that counts."""
    value = (content.headers or {}).get(HEADER)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), DELAY_MAX_MS)


def _once(event: Event, kept: Event, index: int) -> None:
    """A kill before the ack of the one that waited is stored brings that again: the log knows this one by its place."""
    place = f"delayed/{kept.partition.stream}:{kept.partition.index}:{kept.offset}/{index}"
    event.properties = msgspec.structs.replace(event.properties or Properties(), dedupe_id=place)


def _content(raw: bytes) -> Content:
    try:
        return decode_properties(raw)
    except AmqpError:
        return Content()
