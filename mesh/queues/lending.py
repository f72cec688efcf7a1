"""Lender: a member of a part of a queue that stands for another node. What it is given goes there, and is answered.

Its credit is what the members there take, so that a part with more work than hands gives some of it away. It has a
lower priority than the members of this node: work stays where it is as long as somebody there takes it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mesh.queues.messages import LENT_MAX, Back, Done, Fetch, Lend, Message, Nothing, Want
from mesh.replication.bodies import BodyEncoder
from routing.cursors.cursor import Delivery
from routing.queues.elsewhere import Borrowed

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.queues.queue import Queue

PRIORITY: Final = -1
LENT_BYTES_MAX: Final = 4 * 1024 * 1024     # of payloads lent to one node of one queue and not settled yet
BODY_BYTES: Final = 256 * 1024              # of one message


class Lender:
    """A Member of the queue (routing/consumers/consumer.py)."""

    def __init__(self, queue: Queue, say: Callable[[Message], None], back: Callable[[list[Delivery]], None]) -> None:
        """back: what the part was lent itself is not lent on; it goes back to where it came from."""
        self.identity = queue.consumer.identity
        self.credit = 0
        self.attached = False
        self._queue = queue
        self._say = say
        self._back = back
        self._encoder = BodyEncoder()
        self._total = 0                     # lent so far
        self._wanted = 0
        self._bytes = 0
        self._lent: dict[int, Delivery] = {}

    # -- Member -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        own = [delivery for delivery in deliveries if not isinstance(delivery.event.partition, Borrowed)]
        if len(own) < len(deliveries):
            self._back([delivery for delivery in deliveries if isinstance(delivery.event.partition, Borrowed)])
        start = size = 0
        for index, delivery in enumerate(own):
            more = len(delivery.event.payload) + 200
            if index > start and size + more > BODY_BYTES:
                self._lend(own[start:index])
                start, size = index, 0
            size += more
        if start < len(own):
            self._lend(own[start:])
        self._count()

    def _lend(self, deliveries: list[Delivery]) -> None:
        first = self._total + 1
        for delivery in deliveries:
            self._total += 1
            self._lent[self._total] = delivery
            self._bytes += len(delivery.event.payload)
        self._say(Lend(self._queue.name, first, [delivery.attempts for delivery in deliveries],
                       self._encoder.numbered([delivery.event for delivery in deliveries])))

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.attached = False

    # -- what the other node says -----------------------------------------------------------------------------

    def want(self, want: Want) -> None:
        self._wanted = max(self._wanted, want.total)
        self._count()
        if want.readers and not self.attached:
            self.attached = self._queue.attach(self, priority=PRIORITY) is None
        elif not want.readers and self.attached:
            self.attached = False
            self.credit = 0
            self._queue.detach(self, keep=True)
        elif self.credit > 0:
            self._queue.consumer.ready()

    def _count(self) -> None:
        room = LENT_MAX - len(self._lent) if self._bytes < LENT_BYTES_MAX else 0
        self.credit = max(min(self._wanted - self._total, room), 0)

    def fetch(self, fetch: Fetch) -> None:
        def answer(delivery: Delivery | None) -> None:
            if delivery is None:
                self._say(Nothing(fetch.name, fetch.number))
            elif isinstance(delivery.event.partition, Borrowed):
                self._back([delivery])
                self._say(Nothing(fetch.name, fetch.number))
            else:
                self._wanted += 1
                self._lend([delivery])
                self._say(Nothing(fetch.name, fetch.number))

        self._queue.get_here(self, answer)

    def done(self, done: Done) -> None:
        deliveries = [delivery for number in done.numbers if (delivery := self._lent.pop(number, None)) is not None]
        self._settled(deliveries)
        self._queue.ack(deliveries)

    def back(self, back: Back) -> None:
        """attempts: of the next delivery."""
        deliveries = []
        for number, attempts in back.numbers:
            delivery = self._lent.pop(number, None)
            if delivery is not None:
                delivery.attempts = max(attempts, delivery.attempts)
                deliveries.append(delivery)
        self._settled(deliveries)
        self._queue.put_back(deliveries)

    def _settled(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._bytes -= len(delivery.event.payload)
        before = self.credit
        self._count()
        if self.credit > before:
            self._queue.consumer.ready()

    def end(self) -> None:
        """The other node is lost, or has no part any more: what it was lent goes out again, marked."""
        self.credit = 0
        self._lent.clear()
        if self._queue.is_deleted:
            return
        if self.attached:
            self.attached = False
            self._queue.detach(self)
        self._queue.release(self)
