"""The door in for batches of a Kafka producer, and what becomes of them when they are durable.

Called by router.py. A batch goes to the partition that its producer chose; it is not routed by topic. What is asked
here is whether the publisher may publish to the topics of its records:

    the stream's own topic      settings.topic, or the stream's name (routing/log/template.py)
    meshgate-topic              a record may name another one, if that stream captures it and the publisher may publish
                                there. Any other header that begins with meshgate- is renamed: it speaks for the node

Once it is durable, somebody who is not Kafka may want its events. Only then is it opened: small batches at once, for
subscriptions and consumers alike; of larger ones consumers are told to read the log, which they do in steps, and live
subscriptions get the events in parts, one each turn.
"""
from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from routing.errors import Reason, Refusal, TopicError
from routing.event import topic_runs
from routing.log.producing.raw import Checked, RawBatch, Terms
from routing.log.records.batch import TRANSACTIONAL_MASK
from routing.log.template import topic_of_key
from routing.ticket import Part, Ticket
from routing.topic import check_topic

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.event import Event
    from routing.log.partition import Partition
    from routing.producers.transactions import Transactions
    from routing.publishing.publisher import Publisher
    from routing.publishing.route import Route, RouteTable
    from routing.settings import Limits, StreamSettings
    from routing.streams.streams import Stream, StreamTable

log = logging.getLogger(__name__)

OFFERED_RECORDS_MAX = 500       # of a batch that is opened at once: a millisecond,
OFFERED_BYTES_MAX = 256 * 1024  # and what it comes to then
PART_EVENTS = 250               # of a larger one, for live subscriptions, in one turn
PARTS_WAITING_MAX = 1_000       # batches whose events wait for their turn; more are dropped from the direct lane


class Desk(Protocol):
    """What the entry needs of its router."""

    limits: Limits
    streams: StreamTable
    routes: RouteTable
    published: int

    @property
    def transactions(self) -> Transactions: ...
    call_soon: Callable[[Callable[[], None]], object]

    def admit(self, topic: str, publisher: Publisher, count: int) -> Route | Refusal: ...
    def offer(self, partition: Partition, events: list[Event]) -> None: ...
    def send_live(self, run: list[Event], route: Route) -> None: ...
    def request_turn(self) -> None: ...


class RawEntry:
    """Loop thread only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._terms: dict[str, tuple[StreamSettings, Limits, Terms]] = {}
        self._parts: deque[Iterator[list[Event]]] = deque()     # for live subscriptions
        self.dropped_parts = 0

    # -- in ---------------------------------------------------------------------------------------------------

    def publish(self, stream: str, index: int, batch: bytes, publisher: Publisher) -> Ticket:
        """See Router.publish_raw."""
        desk = self._desk
        ticket = Ticket(())
        found = desk.streams.by_name.get(stream)
        if found is None or not 0 <= index < len(found.partitions):
            ticket.parts = [Part(None, -1, 0, Refusal(Reason.NOT_FOUND, f"no partition {index} of {stream} here"))]
        else:
            partition = found.partitions[index]
            partition.append_raw(batch, ticket, self.terms_of(found),
                                 lambda checked: self._ask(found, index, checked, publisher))
        ticket.part_done()
        desk.request_turn()
        return ticket

    def terms_of(self, stream: Stream) -> Terms:
        """What batches must keep to, made once while settings and limits stay."""
        settings, limits = stream.settings, self._desk.limits
        known = self._terms.get(stream.name)
        if known is not None and known[0] is settings and known[1] is limits:
            return known[2]
        made_of_key = settings.topic is not None and "{key}" in settings.topic
        terms = Terms(
            settings.batch_bytes_max, limits.payload_bytes_max, limits.headers_max, limits.expanded_bytes_max,
            keyed=settings.compact, topic_of=(lambda key: topic_of_key(settings, key)) if made_of_key else None)
        self._terms[stream.name] = (settings, limits, terms)
        return terms

    def _ask(self, stream: Stream, index: int, checked: Checked, publisher: Publisher,
             ) -> Counter[str] | Refusal | frozenset[str]:
        """The topics of a batch, if the publisher may publish to all of them; or what must be renamed first."""
        header = checked.header
        if header.attributes & TRANSACTIONAL_MASK:
            over = self._desk.transactions.refuse_batch(
                header.producer_id, header.producer_epoch, stream.name, index)
            if over is not None:
                return over
        named: Counter[str] = checked.named or Counter()
        if checked.named is not None or checked.foreign:
            allowed = frozenset(
                topic for topic, count in named.items() if self._may_name(stream, topic, publisher, count))
            if checked.foreign or len(allowed) < len(named):
                return allowed
        if checked.topics is not None:
            topics = Counter(checked.topics)
        else:
            topics = Counter()
            rest = checked.records - sum(named.values())
            if rest:
                topics[topic_of_key(stream.settings, None)] = rest
        for topic, count in topics.items():
            refusal = self._desk.admit(topic, publisher, count)
            if isinstance(refusal, Refusal):
                return refusal
        topics.update(named)
        self._desk.published += checked.records
        return topics

    def _may_name(self, stream: Stream, topic: str, publisher: Publisher, count: int) -> bool:
        try:
            check_topic(topic)
        except TopicError:
            return False
        return self._desk.streams.capture(topic) is stream and not isinstance(
            self._desk.admit(topic, publisher, count), Refusal)

    # -- out --------------------------------------------------------------------------------------------------

    def committed(self, partition: Partition, batch: RawBatch) -> None:
        """A batch is durable, and no transaction holds it back."""
        routes = [self._desk.routes.of(topic) for topic in batch.topics]
        consumers = {consumer: None for route in routes for consumer in route.consumers}
        direct = any(route.direct for route in routes)
        read = any(consumer.is_read for consumer in consumers)      # else nobody is there to take events
        small = len(batch) <= OFFERED_RECORDS_MAX and batch.plain_bytes <= OFFERED_BYTES_MAX and not batch.is_large
        if small and not self._parts and (read or direct):
            events = batch.events()
            self._send_live(events)
            self._desk.offer(partition, events)
            return
        _read_the_log(consumers, partition, batch.base_offset)
        if direct:
            self._later(batch.parts(PART_EVENTS, partition.opener))

    def settled(self, partition: Partition, offset: int, topics: set[str] | None,
                everybody: Callable[[], Iterable[Consumer]]) -> None:
        """Transactions have ended: what stands from offset on was held back by them and may be read now.

        topics: of these events. None: they are not known, so everybody is asked to look.
        """
        if topics is None:
            _read_the_log(everybody(), partition, offset)
            self._later(_settled_events(partition, offset))
            return
        routes = [self._desk.routes.of(topic) for topic in topics]
        _read_the_log({consumer: None for route in routes for consumer in route.consumers}, partition, offset)
        if any(route.direct for route in routes):
            self._later(_settled_events(partition, offset))

    def _send_live(self, events: list[Event]) -> None:
        for run in topic_runs(events):
            route = self._desk.routes.of(run[0].topic)
            if route.direct:
                self._desk.send_live(run, route)

    def _later(self, parts: Iterator[list[Event]]) -> None:
        if len(self._parts) >= PARTS_WAITING_MAX:
            self.dropped_parts += 1
            return
        self._parts.append(parts)
        if len(self._parts) == 1:
            self._desk.call_soon(self._send_part)

    def _send_part(self) -> None:
        try:
            events = next(self._parts[0], None)
        except Exception:
            log.exception("a fault of ours while reading a batch for live subscriptions")
            events = None
        if events is None:
            self._parts.popleft()
        else:
            self._send_live(events)
            self._desk.request_turn()
        if self._parts:
            self._desk.call_soon(self._send_part)


def _read_the_log(consumers: Iterable[Consumer], partition: Partition, offset: int) -> None:
    for consumer in consumers:
        try:
            consumer.held_back(partition, offset)
        except Exception:
            log.exception("consumer %s: a fault of ours while it is told of events", consumer.name)


def _settled_events(partition: Partition, offset: int) -> Iterator[list[Event]]:
    """What may be read from offset up to where readers stop now, in parts."""
    end_offset = partition.end_offset
    while offset < end_offset:
        found = partition.scan(offset, lambda topic: True, max_events=PART_EVENTS, max_scanned=PART_EVENTS)
        yield [event for event in found.events if event.offset < end_offset]
        offset = found.next_offset
