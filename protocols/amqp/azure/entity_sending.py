"""EntityTarget: a sender's link to a queue or topic of Service Bus. A batch is one delivery and many messages."""
from __future__ import annotations

from typing import Any

from protocols.amqp import convert
from protocols.amqp.azure.taking import Taking
from protocols.amqp.codec.conditions import NOT_IMPLEMENTED, RESOURCE_DELETED, LinkFault
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.work import Whole
from routing.event import Event
from routing.queues.queue import Queue
from routing.router import Router


class EntityTarget(Taking):
    """TargetNode of a link."""

    def __init__(self, link: ReceivingLink, router: Router, parts: Parts, topic: str, queue: Queue | None,
                 reply_topic: convert.ReplyTo, batch_events_max: int) -> None:
        """queue: to be looked at whether it is there, None for topics."""
        super().__init__(link, router, parts.work, reply_topic, batch_events_max)
        self._transactions: Any = parts.transactions
        self._topic = topic
        self._queue = queue

    def check(self, delivery: Incoming) -> None:
        if self._queue is not None and self._queue.is_deleted:
            raise LinkFault(RESOURCE_DELETED, "the queue was deleted")

    def place(self, event: Event) -> None:
        event.topic = self._topic

    def publish(self, whole: Whole, events: list[Event], *, is_last: bool) -> None:
        delivery = whole.delivery
        if delivery.txn_id is None:
            self._work.publish_piece(events, whole, is_last=is_last)
        elif len(events) == 1 and is_last:
            self._transactions.publish(delivery.txn_id, events[0], delivery, internal=False)
        else:
            if is_last:
                self._work.reject(delivery, NOT_IMPLEMENTED, "a transaction takes no batches")
