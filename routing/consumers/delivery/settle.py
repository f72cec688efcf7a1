"""Answers to deliveries: done, not done, more time, given up. Called by the methods of Consumer of the same names."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from routing.consumers.definition.members import Members, Mode, R
from routing.consumers.definition.spec import ConsumerSpec
from routing.cursors.cursor import Cursor, Delivery
from routing.queues.options import Cause

if TYPE_CHECKING:
    from routing.event import Event
    from routing.log.partition import Partition


class Acks(Protocol):
    """Untracked, which has no cursor."""

    def ack(self, event: Event) -> bool: ...


class Settles(Protocol[R]):
    """What answers need of the consumer that they are for."""

    spec: ConsumerSpec
    members: Members[R]
    cursors: dict[Partition, Cursor]

    @property
    def untracked(self) -> Acks | None: ...
    @property
    def returned_bytes_max(self) -> int: ...

    def hold(self, count: int, size: int) -> None: ...
    def settled(self, count: int, size: int) -> None: ...
    def later(self, delay_s: float, cursor: Cursor, delivery: Delivery) -> None: ...
    def to_dead_letters(self, cursor: Cursor, delivery: Delivery, cause: Cause) -> None: ...
    def ready(self) -> None: ...
    def touch(self) -> None: ...


def ack(consumer: Settles[R], deliveries: Iterable[Delivery]) -> None:
    """These are done. Unknown ones (acked before, or seeked away) are ignored."""
    done = size = left = released = 0
    keyed = consumer.spec.mode is Mode.KEY_SHARED
    partition: Any = None
    cursor: Cursor | None = None
    pop: Callable[[int, None], Delivery | None] = _nothing
    for delivery in deliveries:
        event = delivery.event
        if event.partition is not partition:
            partition = event.partition
            cursor = consumer.cursors.get(partition)
            pop = cursor.in_flight.pop if cursor is not None else _nothing
        if pop(event.offset, None) is not None:
            size += len(event.payload)
            released += 1
            if keyed:
                consumer.members.key_released(event)
        elif cursor is None:
            if partition is None and consumer.untracked is not None:
                done += consumer.untracked.ack(event)
        elif cursor.unsynced is None or not cursor.unsynced.note(delivery, None):
            held = cursor.again.take(event.offset) or cursor.delayed.take(event.offset)
            if held is not None:
                left += len(held.event.payload)
                done += 1
    done += released
    consumer.hold(-released, -size)
    consumer.settled(done, size + left)


def _nothing(offset: int, default: None) -> None:
    """The pop() of no cursor."""


def nack(consumer: Settles[R], delivery: Delivery, delay_s: float | None) -> None:
    """Not done: deliver again, after delay_s, or after the back-off when None and a limit of deliveries is set."""
    cursor = consumer.cursors.get(delivery.event.partition)
    if cursor is None or _waits(cursor, delivery, lambda: nack(consumer, delivery, delay_s)):
        return
    if cursor.in_flight.get(delivery.event.offset) is not delivery:
        return                                          # another member has it since, or nobody
    let_go(consumer, cursor, delivery.event)
    again = cursor.returned(delivery.event, delivery.attempts + 1, consumer.returned_bytes_max)
    if delay_s is None:
        delay_s = 0.0
        if consumer.spec.max_deliveries is not None:
            doubled_s = consumer.spec.backoff_initial_s * 2 ** (delivery.attempts - 1)
            delay_s = min(doubled_s, consumer.spec.backoff_max_s)
    if delay_s > 0:
        cursor.delayed[again.event.offset] = again
        consumer.later(delay_s, cursor, again)
    else:
        cursor.again[again.event.offset] = again
    consumer.ready()                                    # there is room for another
    consumer.touch()


def reject(consumer: Settles[R], delivery: Delivery, cause: Cause) -> None:
    """Not to be delivered again."""
    cursor = consumer.cursors.get(delivery.event.partition)
    if cursor is None or _waits(cursor, delivery, lambda: reject(consumer, delivery, cause)):
        return
    if cursor.in_flight.get(delivery.event.offset) is not delivery:
        return                                          # another member has it since, or nobody
    let_go(consumer, cursor, delivery.event)
    consumer.to_dead_letters(cursor, Delivery(delivery.event, delivery.attempts + 1), cause)
    consumer.ready()                                    # there is room for another
    consumer.touch()


def _waits(cursor: Cursor, delivery: Delivery, answer: Callable[[], None]) -> bool:
    """An answer to what is not on disk yet is given again when it is: cursors/unsynced.py. Until then nothing that is
    behind it goes before it.
    """
    if cursor.unsynced is None or not cursor.unsynced.note(delivery, answer):
        return False
    cursor.skipped_to = cursor.partition.next_offset
    return True


def let_go(consumer: Settles[R], cursor: Cursor, event: Event) -> None:
    """This event, which is in flight, is so no more. Where it goes now is the caller's to say."""
    del cursor.in_flight[event.offset]
    consumer.hold(-1, -len(event.payload))
    if consumer.spec.mode is Mode.KEY_SHARED:
        consumer.members.key_released(event)


def extend(consumer: Settles[R], delivery: Delivery, seconds: float) -> None:
    """More time before the ack timeout of a delivery."""
    cursor = consumer.cursors.get(delivery.event.partition)
    if cursor is not None and cursor.in_flight.get(delivery.event.offset) is delivery:
        consumer.later(seconds, cursor, delivery)


def hold_dead_letter(consumer: Settles[R], cursor: Cursor, delivery: Delivery) -> None:
    """The delivery is in flight to the dead-letter topic: unacked until that copy is durable."""
    cursor.in_flight[delivery.event.offset] = delivery
    if consumer.spec.mode is Mode.KEY_SHARED:
        consumer.members.key_taken(delivery.event, consumer.members.owner(delivery.event))
    consumer.hold(1, len(delivery.event.payload))


def timed_out(consumer: Settles[R], cursor: Cursor, delivery: Delivery, now_s: float) -> None:
    """The time of a delivery has come: it was delayed long enough, or nobody has answered."""
    offset = delivery.event.offset
    if cursor.delayed.get(offset) is delivery:
        del cursor.delayed[offset]
        cursor.again[offset] = delivery
        consumer.ready()
    elif cursor.in_flight.get(offset) is delivery and (delivery.deadline_s or 0) <= now_s:
        nack(consumer, delivery, None)
