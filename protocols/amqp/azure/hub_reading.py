"""HubReader: a receiver's link to one partition of a hub, and who of several readers may stay.

    x-opt-offset · x-opt-sequence-number     the offset in the log, as text and as a number
    x-opt-enqueued-time · x-opt-partition-key

Nothing is taken out and nothing is kept of how far somebody has read: that is the SDK's checkpoint store.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from protocols.amqp import convert
from protocols.amqp.codec.conditions import STOLEN, LinkFault, refused
from protocols.amqp.codec.performatives import Source
from protocols.amqp.codec.types import Symbol, Timestamp, Value
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.addresses import address_of
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.sources.streams import StreamReader, StreamReading
from routing.consumers.consumer import Consumer
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec, Start
from routing.cursors.delivery import Delivery
from routing.errors import Refusal
from routing.event import Event
from routing.log.partition import Partition
from routing.queues.predicates import Predicate
from routing.rights.policy import Identity
from routing.router import Router
from routing.streams.streams import Stream

_OFFSET, _NUMBER = Symbol("x-opt-offset"), Symbol("x-opt-sequence-number")
_TIME, _KEY = Symbol("x-opt-enqueued-time"), Symbol("x-opt-partition-key")
_LAST_NUMBER, _LAST_OFFSET = Symbol("last_enqueued_sequence_number"), Symbol("last_enqueued_offset")
_LAST_TIME, _NOW = Symbol("last_enqueued_time_utc"), Symbol("runtime_info_retrieval_time_utc")


def hub_marks(event: Event) -> dict[Value, Value]:
    """The message annotations of an event; its key where it has one that the sender did not write there."""
    marks: dict[Value, Value] = {
        _OFFSET: str(event.offset), _NUMBER: event.offset, _TIME: Timestamp(event.timestamp_ms)}
    if event.key is not None:
        marks[_KEY] = event.key.decode("utf-8", "replace")
    return marks


def last_notes(partition: Partition, clock_ms: Callable[[], int]) -> convert.Marks:
    """Delivery annotations about the end of the partition, for a receiver that wants to hear of it."""
    def notes(event: Event) -> dict[Value, Value]:
        last = partition.end_offset - 1
        found = event if event.offset == last else partition.event(last) or event
        return {_LAST_NUMBER: last, _LAST_OFFSET: str(last), _LAST_TIME: Timestamp(found.timestamp_ms),
                _NOW: Timestamp(clock_ms())}

    return notes


# -- who may stay -----------------------------------------------------------------------------------------------------

class Seat(msgspec.Struct, eq=False):
    """A reader of one partition in one consumer group. epoch: None where it does not want to be alone."""

    link: SendingLink
    epoch: int | None


class Seats:
    """Of all readers of one server. A reader with an epoch is alone: one of a higher epoch, or a later one of the same,
    takes its place, and then it hears amqp:link:stolen.                                   Source: Event Hubs, epochs
    """

    def __init__(self) -> None:
        self._seats: dict[tuple[Stream, str, int], list[Seat]] = {}

    def take(self, stream: Stream, group: str, index: int, link: SendingLink, epoch: int | None) -> Callable[[], None]:
        """Returns what to call when the reader has gone. Raises LinkFault: somebody with a higher epoch is there."""
        place = stream, group, index
        held = self._seats.get(place, [])
        highest = max((seat.epoch for seat in held if seat.epoch is not None), default=None)
        if highest is not None and (epoch is None or epoch < highest):
            raise LinkFault(STOLEN, f"a receiver with the epoch {highest} reads this partition")
        seat = Seat(link, epoch)
        displaced = held if epoch is not None else []
        self._seats[place] = [seat] if epoch is not None else [*held, seat]
        for other in list(displaced):
            if other.link.is_attached:
                connection: Any = other.link.session.connection
                connection.fail_link(other.link, LinkFault(
                    STOLEN, f"a receiver with the epoch {epoch} has taken this partition over"))
        return lambda: self._leave(place, seat)

    def _leave(self, place: tuple[Stream, str, int], seat: Seat) -> None:
        left = [other for other in self._seats.get(place, ()) if other is not seat]
        if left:
            self._seats[place] = left
        else:
            self._seats.pop(place, None)


# -- reading ----------------------------------------------------------------------------------------------------------

class HubReader(StreamReader):
    """Member of a consumer of its own, and SourceNode of the link. No answer is waited for: most SDKs give none."""

    __slots__ = ()

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        link = self.link
        if not link.is_attached:
            return
        wanted = [one for one in deliveries if self.wants(one.event)]
        connection: Any = link.session.connection
        now_ms = self._router.clock_ms()
        connection.cork()
        for delivery in wanted:
            message = convert.outward(delivery.event, 0, now_ms, self._router.ledger.lost, address_of,
                                      notes=self._notes, marks=self._marks)
            link.send_untracked(message)
        if link.draining and link.credit <= 0:
            link.drained()
        connection.uncork()
        connection.container.count("delivered", len(wanted))
        consumer.ack(deliveries)
        self.credit = link.room()
        consumer.ready()
        self._reading.look()


def read_hub(link: SendingLink, router: Router, stream: Stream, index: int, start: Start, identity: Identity, *,
             predicate: Predicate | None, tells_of_the_end: bool, echo: Source, leave: Callable[[], None],
             in_flight: int) -> None:
    """Attach the link. leave: called when it has gone. Raises LinkFault."""
    consumer = router.open_consumer(ConsumerSpec(
        f"amqp/hub/{secrets.token_urlsafe(12)}", stream.filters, Mode.EXCLUSIVE, start, (stream.name,), durable=False,
        max_in_flight=in_flight, partitions=(index,)), identity)
    if isinstance(consumer, Refusal):
        leave()
        raise refused(consumer)

    def gone() -> None:
        router.delete_consumer(consumer.name)
        leave()

    parts: Parts = link.session.connection.parts        # type: ignore[attr-defined]
    notes = last_notes(stream.partitions[index], router.clock_ms) if tells_of_the_end else None
    reader = HubReader(link, StreamReading(router, consumer, gone), identity, router, parts.work, parts.transactions,
                       predicate, notes=notes, marks=hub_marks)
    refusal = consumer.attach(reader)
    if refusal is not None:
        gone()
        raise refused(refusal)
    reader.joined()
    link.accept(reader, echo)
