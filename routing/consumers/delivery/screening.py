"""Screening: deliveries that do not go to the member after all: too early, too late, or not for these eyes.

Called by consumer.py with what handout.py has chosen, when an event says that it needs it. What is kept back costs the
member no credit.
"""
from __future__ import annotations

from typing import Protocol

from routing.consumers.definition.members import R
from routing.consumers.delivery.settle import Settles, let_go
from routing.consumers.rights import Rights
from routing.cursors.cursor import Cursor, Delivery
from routing.event import is_expired
from routing.queues.options import Cause
from routing.rights.policy import Identity

DELAY_MAX_S = 3600.0        # an event that is to be delivered later is looked at again after so long


class Reader(Protocol):
    """A member."""

    identity: Identity
    credit: int


class Screens(Settles[R], Protocol[R]):
    """What screening needs of its consumer."""

    identity: Identity
    delivered: int
    expired: int
    sent_does_not_expire: bool

    @property
    def is_queue(self) -> bool: ...

    def ack(self, deliveries: list[Delivery]) -> None: ...
    def nack(self, delivery: Delivery, delay_s: float | None) -> None: ...


def due(consumer: Screens[R], cursor: Cursor, member: Reader, deliveries: list[Delivery], now_ms: int,
        ) -> list[Delivery]:
    """Without those that are not to be delivered yet: they wait, and the others go before them."""
    left: list[Delivery] = []
    for delivery in deliveries:
        event = delivery.event
        at_ms = event.properties.deliver_at_ms if event.properties is not None else None
        if at_ms is None or at_ms <= now_ms:
            left.append(delivery)
            continue
        consumer.delivered -= 1
        member.credit += 1
        let_go(consumer, cursor, event)
        later = cursor.returned(event, delivery.attempts, consumer.returned_bytes_max)
        cursor.delayed[event.offset] = later
        consumer.later(min((at_ms - now_ms) / 1000, DELAY_MAX_S), cursor, later)
    if len(left) < len(deliveries):
        consumer.ready()
    return left


def unexpired(consumer: Screens[R], cursor: Cursor, member: Reader, deliveries: list[Delivery], now_ms: int,
              ) -> list[Delivery]:
    """Without those whose time is over: they are done with, or dead letters."""
    left: list[Delivery] = []
    over: list[Delivery] = []
    for delivery in deliveries:
        sent = consumer.sent_does_not_expire and delivery.attempts > 1
        (over if is_expired(delivery.event, now_ms) and not sent else left).append(delivery)
    if over:
        consumer.expired += len(over)
        consumer.delivered -= len(over)
        member.credit += len(over)
        if not consumer.is_queue and not consumer.spec.dead_letter_expired:
            consumer.ack(over)
        else:
            for delivery in over:
                let_go(consumer, cursor, delivery.event)
                consumer.to_dead_letters(cursor, delivery, Cause.EXPIRED)
        consumer.ready()
    return left


def readable(consumer: Screens[R], member: Reader, deliveries: list[Delivery], rights: Rights) -> list[Delivery]:
    """Without the dead letters whose original may not be read: by the owner they are done with, a member who may
    not gives them back for another one.
    """
    by_owner, denied = rights.split(consumer.identity, deliveries)
    left, others = rights.split(member.identity, by_owner)
    kept_out = len(denied) + len(others)
    consumer.delivered -= kept_out
    member.credit += kept_out
    consumer.ack(denied)
    for delivery in others:
        consumer.nack(delivery, consumer.spec.backoff_max_s)
    return left
