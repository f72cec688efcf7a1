"""One subscription of a /v1/ws connection: member of a Consumer that writes each delivery into the socket. Sans-IO.

    live       an ephemeral consumer; done when written. Each event carries the position after it, to come back with
    durable    a consumer with a name; done when the client acks. After a reconnect the unacked come again, marked

The client's credit, its unacked deliveries and the send buffer bound what goes out; the rest waits in the log. What
retention removed before it was read is told as a gap, what no stream keeps and nobody had credit for as missed.
"""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from protocols.formats.encoded_events import EncodedEvents
from protocols.formats.location import PositionWriter, Vector, epoch_tag, start_time_s
from protocols.websocket.json.messages import answer, binary, event_start
from routing.consumers.consumer import Consumer
from routing.cursors.cursor import Delivery
from routing.rights.policy import Identity
from routing.router import Router

if TYPE_CHECKING:
    from routing.log.partition import Partition

WINDOW_FIRST = 8                # deliveries handed out at a time until the size of the events is known
WINDOW_MAX = 512                # READ_EVENTS of routing/consumers/delivery/readahead.py
CREDIT_MAX = 1_000_000_000


class Out(Protocol):
    """What a subscription writes to: its session."""

    identity: Identity

    @property
    def full(self) -> bool:
        """The socket or its buffer takes no more for now; written() of each subscription is called when it does."""

    def send(self, message: bytes, *, is_binary: bool = False) -> None: ...

    def room_bytes(self) -> int:
        """Bytes until it is full; below 0 when it is."""

    def send_events(self, messages: list[bytes], payload_bytes: int, *, is_binary: bool) -> None: ...

    def subscription_over(self, subscription: JsonSubscription) -> None:
        """The consumer is gone or somebody else's."""


class JsonSubscription:
    """A Member (routing/consumers/definition/members.py). close() must be called."""

    def __init__(self, out: Out, router: Router, name: str, *, durable: bool, credit: int | None, unacked_max: int,
                 as_binary: bool, as_cloudevents: bool, cache: EncodedEvents, send_buffer_bytes: int) -> None:
        self.identity = out.identity
        self.name = name
        self.durable = durable
        self.credit = 0                                 # for the consumer; see _room()
        self.consumer: Consumer | None = None
        self.vector: Vector = {}                        # next offset of every partition that this reader has not seen
        self._out = out
        self._router = router
        self._client_credit = credit                    # None: as fast as the socket takes it
        self._unacked_max = unacked_max
        self._binary = as_binary
        self._member = b"cloudevent" if as_cloudevents else b"event"
        self._cache = cache
        self._start = event_start(name)
        self._buffer_bytes = send_buffer_bytes
        self._window = WINDOW_FIRST
        self._pending: deque[Delivery] = deque()        # handed out, not written: the socket is full
        self._unacked: dict[int, Delivery] = {}         # by their number, rising
        self._numbers: dict[tuple[Partition, int], int] = {}
        self._number = 0
        self._position: PositionWriter | None = None
        self._sent_position = ""
        self._dropped = 0

    @property
    def unacked(self) -> int:
        """Deliveries that were sent and wait for the client's word."""
        return len(self._unacked)

    # -- life -------------------------------------------------------------------------------------------------

    def start(self, consumer: Consumer, vector: Vector) -> None:
        """vector: where it begins; belongs to the subscription from now on. consumer.attach() follows."""
        self.consumer = consumer
        self.vector = vector
        self._dropped = consumer.dropped
        if not self.durable:
            tag = epoch_tag(self._router.store.epoch)
            self._position = PositionWriter(tag, start_time_s(self._router.clock_ms()), vector)
        self.credit = self._room()

    def position(self) -> str | None:
        """Where a live subscription can be resumed."""
        if self._position is None:
            return None
        self._sent_position = self._position.text()
        return self._sent_position

    def close(self) -> None:
        """Let go of the consumer: what is unacked goes out again, to whoever comes next."""
        consumer, self.consumer = self.consumer, None
        self.credit = 0
        self._pending.clear()
        self._unacked.clear()
        self._numbers.clear()
        if consumer is None:
            return
        if self.durable:
            consumer.detach(self)
        else:
            self._router.delete_consumer(consumer.name)

    def rights_changed(self, identity: Identity) -> None:
        """A live one ends when nothing of it may be read any more; what waits here and is denied is not sent."""
        self.identity = identity
        consumer, rights = self.consumer, self._router.rights
        if consumer is None:
            return
        if not self.durable and not any(rights.may_read_part(identity, name) for name in consumer.filters):
            self.close()
            self.end("not-authorized", "the rules do not allow it any more")
            return
        readable, denied = rights.split(identity, self._pending)
        if denied:
            self._pending = deque(readable)
            consumer.ack(denied)

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.end("consumer-closed", reason)

    def taken_over(self) -> None:
        """Another connection of the same user reads the consumer now."""
        self.close()
        self.end("taken-over", "another connection took the consumer over")

    def end(self, problem: str, reason: str) -> None:
        self.consumer = None
        self.close()
        self._out.send(answer("closed", subscription=self.name, problem=f"/problems/{problem}", detail=reason))
        self._out.subscription_over(self)

    # -- events out -------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self._pending.extend(deliveries)
        self._write()

    def written(self) -> None:
        """The socket takes more again."""
        self._write()
        self._ask()

    def _ask(self) -> None:
        if self.credit > 0 and self.consumer is not None:
            self.consumer.ready(self)

    def _write(self) -> None:
        """Write what was handed out until the buffer is full."""
        pending, out = self._pending, self._out
        room = out.room_bytes()
        if not pending or room < 0:
            self._tell_missed()
            self.credit = self._room()
            return
        done: list[Delivery] = []
        messages: list[bytes] = []
        size = payload_bytes = 0
        while pending and size <= room:
            delivery = pending.popleft()
            event = delivery.event
            if event.partition is not None and not self._see(event.partition, event.offset):
                out.send_events(messages, payload_bytes, is_binary=self._binary)       # they were before the gap
                messages, payload_bytes = [], 0
                self._tell_gap(event.partition)
                self._advance(event.partition, event.offset + 1)
            message = self._message(delivery)
            messages.append(message)
            size += len(message)
            payload_bytes += len(event.payload)
            if not self.durable:
                done.append(delivery)
        self._resize_window(size, len(messages))
        if self._client_credit is not None:
            self._client_credit -= len(messages)
        out.send_events(messages, payload_bytes, is_binary=self._binary)
        if done and self.consumer is not None:
            self.consumer.ack(done)
        self._tell_missed()
        self.credit = self._room()

    def _see(self, partition: Partition, offset: int) -> bool:
        """Move on behind an event. False: something before it is gone, or the partition is new here."""
        offsets = self.vector.get(partition.stream)
        index = partition.index
        if offsets is None or index >= len(offsets) or offsets[index] < partition.start_offset:
            return False
        if offset >= offsets[index]:
            offsets[index] = offset + 1
        return True

    def _resize_window(self, size: int, count: int) -> None:
        if count:
            fitting = self._buffer_bytes * count // max(size, 1)
            self._window = max(1, min(fitting, self._window * 2, WINDOW_MAX))

    def _message(self, delivery: Delivery) -> bytes:
        event = delivery.event
        head = self._start
        if self.durable:
            if event.partition is not None:
                head += b',"delivery":%d' % self._take_number(delivery)
            if delivery.attempts > 1:
                head += b',"redelivered":true,"attempt":%d' % delivery.attempts
        elif self._position is not None:
            self._sent_position = self._position.text()
            head += b',"position":"%b"' % self._sent_position.encode("ascii")
        message = b'%b,"%b":%b}' % (head, self._member, self._cache.of(event))
        return binary(message, event.payload) if self._binary else message

    def _take_number(self, delivery: Delivery) -> int:
        event = delivery.event
        self._number += 1
        place = (event.partition, event.offset)
        before = self._numbers.pop(place, None)
        if before is not None:                          # it timed out and comes again
            self._unacked.pop(before, None)
        self._numbers[place] = self._number
        self._unacked[self._number] = delivery
        return self._number

    def _room(self) -> int:
        """Deliveries that may be handed out now."""
        if self.consumer is None or self._out.full:
            return 0
        held = len(self._pending)
        room = self._window - held
        if self._client_credit is not None:
            room = min(room, self._client_credit - held)
        if self.durable:
            room = min(room, self._unacked_max - len(self._unacked) - held)
        return max(room, 0)

    # -- answers ----------------------------------------------------------------------------------------------

    def add_credit(self, count: int) -> None:
        if self._client_credit is None:
            self._client_credit = 0
        self._client_credit = min(self._client_credit + count, CREDIT_MAX)
        self.credit = self._room()
        self._ask()

    def ack(self, numbers: list[int], up_to: int | None) -> None:
        """These are done; unknown ones were done before, or came again under another number."""
        found = list(numbers)
        if up_to is not None:
            for number in self._unacked:
                if number > up_to:
                    break
                found.append(number)
        done = [delivery for number in found if (delivery := self._settled(number)) is not None]
        if done and self.consumer is not None:
            self.consumer.ack(done)
        self.credit = self._room()
        self._ask()

    def nack(self, numbers: list[int], delay_s: float | None) -> None:
        for number in numbers:
            delivery = self._settled(number)
            if delivery is not None and self.consumer is not None:
                self.consumer.nack(delivery, delay_s)
        self.credit = self._room()
        self._ask()

    def _settled(self, number: int) -> Delivery | None:
        delivery = self._unacked.pop(number, None)
        if delivery is not None:
            self._numbers.pop((delivery.event.partition, delivery.event.offset), None)
        return delivery

    # -- what was missed, and where we are --------------------------------------------------------------------

    def tick(self) -> None:
        """Called every ping interval: positions move on also where nothing was wanted."""
        if self.consumer is None or self._pending or self._out.full:
            return
        for partition, cursor in self.consumer.cursors.items():
            position, unacked = cursor.state()
            if not unacked or self.durable:
                self._advance(partition, position)
        self._tell_missed()
        if self._position is not None and self._position.text() != self._sent_position:
            self._out.send(answer("position", subscription=self.name, position=self.position()))

    def _tell_gap(self, partition: Partition) -> None:
        offsets = self.vector.get(partition.stream, ())
        if partition.index >= len(offsets) or offsets[partition.index] >= partition.start_offset:
            return
        self._out.send(answer(
            "gap", subscription=self.name, stream=partition.stream, partition=partition.index,
            **{"from": offsets[partition.index], "to": partition.start_offset}))
        self._advance(partition, partition.start_offset)

    def tell_gaps(self) -> None:
        """At the start: what is gone already."""
        if self.consumer is not None:
            for partition in self.consumer.cursors:
                self._tell_gap(partition)

    def _tell_missed(self) -> None:
        consumer = self.consumer
        if consumer is not None and consumer.dropped > self._dropped and not self._out.full:
            self._out.send(answer("missed", subscription=self.name, events=consumer.dropped - self._dropped,
                                  detail="no stream keeps these topics, and there was no credit"))
            self._dropped = consumer.dropped

    def _advance(self, partition: Partition, position: int) -> None:
        offsets = self.vector.setdefault(partition.stream, [])
        while len(offsets) <= partition.index:          # a stream or partition that came with a reload
            offsets.append(0)
        offsets[partition.index] = max(offsets[partition.index], position)
