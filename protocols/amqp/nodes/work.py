"""Work: what one connection has under way between its links and the core. Messages in, answers out, acks in.

    transfers of one read ─► add() ─► flush(): one Router.publish() ─► Ticket done ─► dispositions, in order
    dispositions of one read ─► acked() ─► flush(): one ack per queue

Accepted is said when the message is on disk. Loop thread only.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import CONDITION_OF_REASON
from protocols.amqp.codec.performatives import ACCEPTED, RELEASED, Error, Rejected
from protocols.amqp.engine.receiving import Incoming
from routing.consumers.consumer import Consumer
from routing.cursors.delivery import Delivery
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.publishing.publisher import Publisher
from routing.rights.policy import Identity
from routing.router import Router
from routing.ticket import Ticket


class Reading(Protocol):
    """What this needs of the connection."""

    @property
    def identity(self) -> Identity: ...

    def hold(self) -> None: ...
    def release(self) -> None: ...
    def long_work(self, work: Iterator[None]) -> None: ...
    def withhold_credit(self, withheld: bool) -> None: ...
    def flush_answers(self) -> None: ...
    def cork(self) -> None: ...
    def uncork(self) -> None: ...


class Readable(Protocol):
    """A queue of the core, or what stands in its place: sources/streams.py."""

    name: str
    consumer: Consumer

    @property
    def is_deleted(self) -> bool: ...
    def ack(self, deliveries: Iterable[Delivery]) -> None: ...
    def nack(self, deliveries: Iterable[Delivery]) -> None: ...
    def put_back(self, deliveries: Iterable[Delivery]) -> None: ...
    def reject(self, deliveries: Iterable[Delivery]) -> None: ...
    def detach(self, member: Any) -> None: ...
    def when_idle(self, call: Callable[[], None]) -> None: ...
    def when_looked_through(self, member: Any, call: Callable[[], None]) -> None: ...


class Whole(msgspec.Struct):
    """A delivery of many events, which is accepted when all of them are on disk. They are published in pieces."""

    delivery: Incoming
    partition: Any = None               # that was chosen for all of them, where one is
    refusal: Refusal | None = None      # of the first piece that was refused


class _Batch(msgspec.Struct):
    """whole: all events are of that delivery; is_last: and no more of it come."""

    deliveries: list[Incoming | None]
    ticket: Ticket
    whole: Whole | None = None
    is_last: bool = True


class Work:
    """One per connection."""

    __slots__ = ("_batches", "_connection", "_count", "_deliveries", "_events", "_held", "_internal", "_paced",
                 "_publisher", "_router", "_told", "acks")

    def __init__(self, router: Router, connection: Reading, count: Callable[[str, int], None]) -> None:
        self._router = router
        self._connection = connection
        self._count = count
        self._publisher = router.publisher(connection.identity)
        self._events: list[Event] = []
        self._deliveries: list[Incoming | None] = []
        self._internal: list[tuple[Event, Incoming | None]] = []      # None: nobody waits for an answer
        self._batches: deque[_Batch] = deque()
        self._held = False                              # reading is paused until the disk has caught up
        self._paced = False                             # no more credit until a queue has caught up a little
        self._told: dict[Callable[[], None], None] = {}
        self.acks: dict[Readable, list[Delivery]] = {}

    @property
    def publisher(self) -> Publisher:
        return self._publisher

    # -- in ---------------------------------------------------------------------------------------------------

    def add(self, event: Event, delivery: Incoming, *, internal: bool = False) -> None:
        """A message of the current read. internal: the right to send it was asked already."""
        if internal:
            self._internal.append((event, delivery))
        else:
            self._events.append(event)
            self._deliveries.append(delivery)

    def add_all(self, events: list[Event], deliveries: list[Incoming], *, internal: bool) -> None:
        """As add() of each."""
        if internal:
            self._internal += zip(events, deliveries)
        else:
            self._events += events
            self._deliveries += deliveries

    def copy(self, event: Event, topic: str) -> None:
        """One more of it, straight to a queue that no topic filter gives it to."""
        self._internal.append((copy_of(event, topic), None))

    def acked(self, queue: Readable, delivery: Delivery) -> None:
        found = self.acks.get(queue)
        if found is None:
            found = self.acks[queue] = []
        found.append(delivery)

    def all_acked(self, queue: Readable, deliveries: list[Delivery]) -> None:
        """As acked() of each."""
        self.acks.setdefault(queue, []).extend(deliveries)

    def when_flushed(self, call: Callable[[], None]) -> None:
        """Call once after the acks of this read; at once where there are none."""
        if self.acks:
            self._told[call] = None
        else:
            call()

    def flush(self) -> None:
        """Give the core what this read has brought so far."""
        if self.acks:
            acks, self.acks = self.acks, {}
            for queue, acked in acks.items():
                if not queue.is_deleted:
                    queue.ack(acked)
            told, self._told = self._told, {}
            for call in told:
                call()
        if self._events:
            events, self._events = self._events, []
            deliveries, self._deliveries = self._deliveries, []
            self._publish(events, deliveries, self._publisher)
        if self._internal:
            pairs, self._internal = self._internal, []
            self._publish([event for event, _ in pairs], [delivery for _, delivery in pairs], self._router.internal)

    def publish_piece(self, events: list[Event], whole: Whole, *, is_last: bool) -> None:
        """Some events of one delivery. What was added before is to be flushed."""
        router, publisher = self._router, self._publisher
        ticket = router.publish_to(whole.partition, events, publisher) if whole.partition is not None \
            else router.publish(events, publisher)
        self._published(len(events), _Batch([], ticket, whole, is_last))

    def _publish(self, events: list[Event], deliveries: list[Incoming | None], publisher: Publisher) -> None:
        self._published(len(events), _Batch(deliveries, self._router.publish(events, publisher)))

    def _published(self, count: int, batch: _Batch) -> None:
        router, ticket = self._router, batch.ticket
        self._count("received", count)
        self._batches.append(batch)
        if ticket.done:
            self._drain()
        else:
            ticket.on_done(self._drain)
        if router.pressure and not self._held:
            self._held = True
            self._connection.hold()
            router.on_relief(self._relieved)
        if not self._paced and router.when_free(self._publisher, self._free):
            self._paced = True
            self._connection.withhold_credit(True)

    def _free(self) -> None:
        self._paced = False
        self._connection.withhold_credit(False)

    def _relieved(self) -> None:
        self._held = False
        self._connection.release()

    def hold(self) -> None:
        """Read no more until release() was called as often."""
        self._connection.hold()

    def release(self) -> None:
        self._connection.release()

    def long_work(self, work: Iterator[None]) -> None:
        """Within a frame or outside of one. Nothing behind it is looked at before it is done."""
        self._connection.long_work(work)

    # -- answers ----------------------------------------------------------------------------------------------

    def reject(self, delivery: Incoming, condition: str, text: str) -> None:
        """Before anything of it is stored."""
        self._count("rejected", 1)
        self.flush()                                    # answers go out in order
        delivery.answer(Rejected(Error(condition, text[:1000])))
        self._connection.flush_answers()

    def _drain(self, _: Ticket | None = None) -> None:
        """Answer what is durable, up to the first batch that is not."""
        batches = self._batches
        self._connection.cork()
        while batches and batches[0].ticket.done:
            batch = batches.popleft()
            refusals = batch.ticket.refusals
            if batch.whole is not None:
                self._answer_whole(batch.whole, refusals, batch.is_last)
                continue
            if not refusals:
                _accept(batch.deliveries)
                continue
            for index, delivery in enumerate(batch.deliveries):
                refusal = refusals.get(index)
                if refusal is not None:
                    self._count("rejected", 1)
                if delivery is not None:
                    delivery.answer(ACCEPTED if refusal is None else outcome_of(refusal))
        self._connection.flush_answers()
        self._connection.uncork()

    def _answer_whole(self, whole: Whole, refusals: dict[int, Refusal], is_last: bool) -> None:
        if refusals and whole.refusal is None:
            whole.refusal = refusals[min(refusals)]
            self._count("rejected", 1)
        if is_last:
            whole.delivery.answer(ACCEPTED if whole.refusal is None else outcome_of(whole.refusal))

    def take_identity(self, identity: Identity) -> None:
        self._publisher = self._router.publisher(identity)

    def close(self) -> None:
        """The connection is gone: what has come whole counts, and so do its acks."""
        self.flush()


def _accept(deliveries: list[Incoming | None]) -> None:
    """Neighbours together, where nothing is kept of them."""
    link: Any = None
    first = count = 0
    for delivery in deliveries:
        if delivery is None or delivery.settled:
            continue
        if delivery.link is link and delivery.delivery_id == first + count:
            count += 1
            continue
        if count:
            link.answer_all(first, count, ACCEPTED)
            count = 0
        if delivery.link.unsettled is not None or delivery.settles_first:
            link = None
            delivery.link.answer(delivery, ACCEPTED)
        else:
            link, first, count = delivery.link, delivery.delivery_id, 1
    if count:
        link.answer_all(first, count, ACCEPTED)


def outcome_of(refusal: Refusal) -> Composite:
    """What a sender hears of a message that is not in the log: released where trying again may help."""
    if refusal.reason in (Reason.STORAGE_FULL, Reason.BUSY, Reason.SHUTTING_DOWN):
        return RELEASED
    return Rejected(Error(CONDITION_OF_REASON[refusal.reason], refusal.text[:1000]))


def copy_of(event: Event, topic: str) -> Event:
    """The same for another topic, not yet published."""
    return Event(topic, event.payload, event.qos, event.publisher, event.key, event.headers, event.properties)
