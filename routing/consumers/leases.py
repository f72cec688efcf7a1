"""Leases: answers to deliveries by their place in the log, from clients that no connection ties to what they hold.

A REST client gets events, goes away, and answers later, maybe after this node was killed and started again. So an
answer names the event (partition, offset), the attempt, and the consumer's generation, which a seek moves on. Whoever
checks that the answer is for this consumer is the caller (protocols/rest/consumers/tokens.py).
"""
from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from routing.consumers.delivery.settle import let_go
from routing.cursors.cursor import Delivery
from routing.queues.options import Cause

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer, Member
    from routing.event import Event
    from routing.log.partition import Partition

AHEAD_MAX = 20_000      # acks kept of events that a killed node had handed out and this one has not read, per partition


class Answer(enum.Enum):
    DONE = "done"       # it was as asked, or it is so already
    STALE = "stale"     # it came too late, or for what was never handed out: nothing was changed


def ack_place(consumer: Consumer, partition: Partition, offset: int) -> Answer:
    """This event is done, whichever attempt at it says so."""
    cursor = consumer.cursors.get(partition)
    if cursor is None or not 0 <= offset < partition.end_offset:
        return Answer.STALE
    delivery = cursor.in_flight.get(offset) or cursor.again.get(offset) or cursor.delayed.get(offset)
    if delivery is not None:
        consumer.ack((delivery,))
        return Answer.DONE
    if offset in cursor.ahead:
        return Answer.DONE
    waits = cursor.next_wanted <= offset < cursor.position and any(event.offset == offset for event in cursor.waiting)
    if not waits and offset < cursor.position:
        return Answer.DONE                              # acked before, or given up
    if offset >= cursor.repeats_below or len(cursor.ahead) >= AHEAD_MAX:
        return Answer.STALE                             # never handed out
    cursor.ahead.add(offset)
    if waits:
        cursor.drop_waiting(lambda event: event.offset == offset)
    consumer.settled(1)
    return Answer.DONE


def nack_place(consumer: Consumer, partition: Partition, offset: int, attempt: int, delay_s: float | None) -> Answer:
    """Deliver it again, after delay_s (None: the consumer's back-off). Only the latest attempt may say so."""
    cursor = consumer.cursors.get(partition)
    if cursor is None:
        return Answer.STALE
    delivery = cursor.in_flight.get(offset)
    if delivery is None:                                # it timed out, or the node was started again: it comes anyway
        coming = cursor.again.get(offset) or cursor.delayed.get(offset)
        return Answer.DONE if coming is not None and coming.attempts == attempt + 1 else Answer.STALE
    if delivery.attempts != attempt:
        return Answer.STALE
    consumer.nack(delivery, delay_s)
    return Answer.DONE


def reject_place(consumer: Consumer, partition: Partition, offset: int, attempt: int) -> Answer:
    """Never again from this consumer: to its dead letters. Only the latest attempt may say so."""
    cursor = consumer.cursors.get(partition)
    if cursor is None:
        return Answer.STALE
    delivery = cursor.in_flight.get(offset)
    if delivery is not None and delivery.attempts == attempt:
        consumer.reject(delivery)
        return Answer.DONE
    coming = cursor.again.get(offset) or cursor.delayed.get(offset)     # the node was started again meanwhile
    event = cursor.event(offset) if coming is not None and coming.attempts == attempt + 1 else None
    if coming is None or event is None:
        return Answer.STALE
    cursor.again.take(offset)
    cursor.delayed.take(offset)
    consumer.to_dead_letters(cursor, Delivery(event, coming.attempts), Cause.REJECTED)
    consumer.touch()
    return Answer.DONE


def extend_place(consumer: Consumer, partition: Partition, offset: int, attempt: int, seconds: float) -> Answer:
    """More time before the event counts as lost. Only the latest attempt may ask for it."""
    cursor = consumer.cursors.get(partition)
    delivery = cursor.in_flight.get(offset) if cursor is not None else None
    if delivery is None or delivery.attempts != attempt:
        return Answer.STALE
    consumer.extend(delivery, seconds)
    return Answer.DONE


def give_back(consumer: Consumer, deliveries: list[Delivery]) -> None:
    """These never left the node: they go out again, in order, as if they had not been handed out."""
    for delivery in deliveries:
        event = delivery.event
        cursor = consumer.cursors.get(event.partition)
        if cursor is None or cursor.in_flight.get(event.offset) is not delivery:
            continue
        let_go(consumer, cursor, event)
        cursor.again[event.offset] = cursor.returned(event, delivery.attempts, consumer.returned_bytes_max)
    consumer.ready()


def redeliver(consumer: Consumer, event: Event) -> Answer:
    """Take back an ack: the event, which must have been read before, is handed out once more as if new."""
    cursor = consumer.cursors.get(event.partition)
    if cursor is None or event.offset >= cursor.position or not consumer.wants(event.topic):
        return Answer.STALE
    if any(event.offset in table for table in (cursor.in_flight, cursor.again, cursor.delayed)):
        return Answer.STALE
    cursor.ahead.discard(event.offset)
    consumer.given_anew(f"{event.partition.stream}:{event.partition.index}:{event.offset}")
    cursor.again[event.offset] = Delivery(event)
    consumer.touch()
    consumer.ready()
    return Answer.DONE


def held_by(consumer: Consumer, member: Member) -> int:
    """How many deliveries a member has in flight. Cost: the in-flight count."""
    return sum(
        delivery.member is member for cursor in consumer.cursors.values() for delivery in cursor.in_flight.values())
