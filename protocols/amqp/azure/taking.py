"""Taking: what senders of Azure's SDKs send: a message, or a batch, which is one delivery and many events.

A large batch is decoded in steps, and then published in pieces. What comes behind it counts behind it, so nothing is
read meanwhile. It is accepted when all of it is on disk; one that is none is rejected before anything of it is stored.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from protocols.amqp import convert
from protocols.amqp.azure.batches import MESSAGE_FORMAT, messages_of
from protocols.amqp.codec.conditions import DECODE_ERROR, MESSAGE_SIZE, UNAUTHORIZED, DecodeFault
from protocols.amqp.codec.message import map_of
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.engine.seams import LooksAtEach
from protocols.amqp.nodes.work import Whole, Work
from routing.event import Event
from routing.router import Router

PIECE = 16                      # events of a batch between two questions whether the slice is over: some 0.3 ms
PUBLISHED = 500                 # events of one publish: some 2 ms


class Taking(LooksAtEach, ABC):
    """TargetNode of a link; where its events go is for hub_sending.py and entity_sending.py to say."""

    def __init__(self, link: ReceivingLink, router: Router, work: Work, reply_topic: convert.ReplyTo,
                 batch_events_max: int) -> None:
        self._link = link
        self._router = router
        self._work = work
        self._reply_topic = reply_topic
        self._batch_events_max = batch_events_max

    @abstractmethod
    def check(self, delivery: Incoming) -> None:
        """Raises LinkFault: it can not be sent there."""

    @abstractmethod
    def place(self, event: Event) -> None:
        """Give it its topic."""

    @abstractmethod
    def publish(self, whole: Whole, events: list[Event], *, is_last: bool) -> None:
        """Some of one delivery, one at least."""

    def take(self, delivery: Incoming, message: bytes) -> None:
        self.check(delivery)
        self._work.flush()                              # what came before counts before
        connection: Any = self._link.session.connection
        connection.long_work(self._steps(delivery, message))

    def _steps(self, delivery: Incoming, message: bytes) -> Iterator[None]:
        events: list[Event] = []
        key: bytes | None = None
        try:
            for found in messages_of(message) if delivery.message_format == MESSAGE_FORMAT else (message,):
                if isinstance(found, tuple):
                    key = convert.key_of(map_of(message, found))
                    continue
                if len(events) >= self._batch_events_max:
                    self._work.reject(delivery, MESSAGE_SIZE, f"a batch has at most {self._batch_events_max} events")
                    return
                event = self._event(delivery, found, key)
                if event is None:
                    return
                events.append(event)
                if len(events) % PIECE == 0:
                    yield
        except DecodeFault as fault:
            self._work.reject(delivery, DECODE_ERROR, fault.text)
            return
        connection: Any = self._link.session.connection
        if connection.closed:
            return
        if not events:
            self._work.reject(delivery, DECODE_ERROR, "a batch of no events")
            return
        whole = Whole(delivery)
        for start in range(0, len(events), PUBLISHED):
            if start:
                yield
            if not connection.closed:
                self.publish(whole, events[start:start + PUBLISHED], is_last=start + PUBLISHED >= len(events))

    def _event(self, delivery: Incoming, message: bytes, key: bytes | None) -> Event | None:
        """None: the delivery has been rejected."""
        connection: Any = self._link.session.connection
        found = convert.read(message, publisher=connection.container_id, settled=delivery.settled,
                             now_ms=self._router.clock_ms(), topic_of=self._reply_topic)
        if not found.is_of(connection.identity.user):
            self._work.reject(delivery, UNAUTHORIZED, "user-id is not who has logged in")
            return None
        event = found.event
        if event.key is None:
            event.key = key
        self.place(event)
        return event

    def detach(self, *, closed: bool) -> None:
        return
