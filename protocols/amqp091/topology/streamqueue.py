"""A queue of type stream: it reads the log and takes nothing out. Each consumer has a place of its own.

    bindings ── topic filters ──┐
    straight to it, copies ─────┴─► the log ─► a Consumer of the core per reader, from x-stream-offset on

It has no storage of its own: what its filters match stands in the log once, whoever reads it, for as long as the stream
there keeps it. Source: RabbitMQ, Streams.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from protocols.amqp091.codec.codes import PRECONDITION_FAILED, SoftError
from protocols.amqp091.codec.tables import Table, Timestamp, Value
from protocols.amqp091.topology.arguments import QueueOptions
from protocols.amqp091.topology.names import core_name, level_of
from protocols.streamstart import stream_start
from routing.consumers.consumer import Consumer, Member
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec, Start
from routing.cursors.delivery import Delivery
from routing.errors import Refusal
from routing.queues.bindings import Binding
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.router import Router

PREFIX = "amq.stream"           # no exchange may be named so


def stream_topic(name: str) -> str:
    """Straight to it."""
    return f"{PREFIX}/{level_of(name)}"


class StreamReading:
    """One consumer of a stream queue: what channels/reader.py needs of a queue."""

    is_quorum = False
    is_stream = True

    def __init__(self, queue: StreamQueue, consumer: Consumer) -> None:
        self.name = queue.name
        self.consumer = consumer
        self.core = self
        self._queue = queue

    @property
    def alive(self) -> bool:
        return not self.consumer.closed

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def nack(self, deliveries: Iterable[Delivery], delay_s: float = 0.0) -> None:
        """Nothing is taken out, so nothing comes back: it makes room for the next, as with RabbitMQ."""
        self.consumer.ack(deliveries)

    def reject(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def detach(self, member: Member, *, keep: bool = False) -> None:
        self._queue.leave(self)

    def release(self, member: Member) -> None:
        return

    def leave(self) -> None:
        self._queue.leave(self)


class StreamQueue:
    """In the place of a Queue (queue.py). core is itself: there is no queue in the core."""

    is_quorum = False
    is_stream = True
    is_stored = True
    durable = True
    auto_delete = False
    owner: Any = None
    exclusive: Member | None = None

    def __init__(self, router: Router, name: str, arguments: Table, options: QueueOptions, user: str) -> None:
        self.name = name
        self.arguments = arguments
        self.options = options
        self.user = user
        self.core = self
        self.is_deleted = False
        self._router = router
        self._filters: dict[str, None] = {stream_topic(name): None}
        self._readings: dict[StreamReading, Identity] = {}

    @property
    def alive(self) -> bool:
        return not self.is_deleted

    @property
    def core_name(self) -> str:
        return core_name(self.name)

    @property
    def readers(self) -> int:
        return len(self._readings)

    def ready_count(self) -> int:
        """Not counted: everybody has a place of his own."""
        return 0

    is_counted = True

    def when_counted(self, call: Callable[[], None]) -> None:
        call()

    # -- bindings ---------------------------------------------------------------------------------------------

    def bind(self, binding: Binding, identity: Identity) -> Refusal | None:
        refusal = self._router.check_subscribe(identity, binding.pattern)
        if refusal is None:
            self.restore_binding(binding.pattern)
            for reading, reader in list(self._readings.items()):
                reading.consumer.add_filter(binding.pattern, reader)
        return refusal

    def restore_binding(self, pattern: str) -> None:
        self._filters[pattern] = None

    def unbind(self, binding: Binding) -> bool:
        if self._filters.pop(binding.pattern, self) is self:
            return False
        for reading in list(self._readings):
            reading.consumer.remove_filter(binding.pattern)
        return True

    # -- readers ----------------------------------------------------------------------------------------------

    def read(self, identity: Identity, start: Start, in_flight: int) -> StreamReading | Refusal:
        """A place of its own for one more reader."""
        spec = ConsumerSpec(
            f"amqp091/stream/{secrets.token_urlsafe(12)}", tuple(self._filters), Mode.EXCLUSIVE,
            self._not_before(start), durable=False, max_in_flight=in_flight)
        found = self._router.open_consumer(spec, identity)
        if isinstance(found, Refusal):
            return found
        reading = StreamReading(self, found)
        self._readings[reading] = identity
        return reading

    def _not_before(self, start: Start) -> Start:
        """x-max-age: what is older is not there any more."""
        if self.options.max_age_s is None or start == "latest":
            return start
        oldest_ms = self._router.clock_ms() - self.options.max_age_s * 1000
        if isinstance(start, dict):
            return {"time_ms": max(start["time_ms"], oldest_ms)}
        return {"time_ms": oldest_ms} if start == "earliest" else start

    def leave(self, reading: StreamReading) -> None:
        if self._readings.pop(reading, None) is not None:
            self._router.delete_consumer(reading.consumer.name)

    def close(self) -> None:
        """Deleted: its readers are told by the core."""
        self.is_deleted = True
        for reading in list(self._readings):
            self.leave(reading)


def start_of(value: Value, router: Router) -> Start:
    """Where x-stream-offset says that a reader begins. Raises SoftError 406 for what says nothing.

    next (and nothing): what comes from now on; first; last: a little before the end; an offset; a time; an age.
    """
    if value is None:
        value = "next"
    if isinstance(value, Timestamp):
        return {"time_ms": min(max(int(value), 0), 1 << 40) * 1000}
    start = stream_start(value, router)
    if start is None:
        shown = value if isinstance(value, str | int) else type(value).__name__
        raise SoftError(PRECONDITION_FAILED, f"invalid x-stream-offset '{shown}'"[:200])
    return start
