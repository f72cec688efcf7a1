"""Dead letters: what becomes of an event that a consumer gives up.

A copy goes to the consumer's dead-letter topic, and the original is acked when that copy is durable. It says who gave
it up, and how often, at every station that it came through (DeadLetter in event.py, and for readers the headers
dead-letter-…): so work → retry → work → parked loses nothing. Every station is a decision of a reader, so a circle of
them may go on, but not for ever: after ROUNDS_MAX copies the event stays with the consumer that gives it up, and is
tried again once in backoff_max_s.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.cursors.cursor import Delivery
from routing.errors import Refusal
from routing.event import DeadLetter, Death, Event, Headers, Properties
from routing.queues.leaving.templates import Letter
from routing.queues.options import Cause
from routing.rights.policy import Action

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.consumers.letters import Letters
    from routing.consumers.rights import Rights
    from routing.publishing.publisher import Publisher
    from routing.rights.policy import Policy
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

ROUNDS_MAX = 1_000          # copies that one consumer makes of an event on its way: with back-off, days
HISTORY_MAX = 32            # stations on the way of one event
HISTORY_CHARS_MAX = 65_536  # and of their topics
LIMIT_REACHED = "delivery limit reached"

_NO_PROPERTIES = Properties()
_HEADERS = frozenset(       # of a dead letter, for its readers; what a publisher wrote there goes
    f"dead-letter-{name}" for name in ("reason", "consumer", "count", "topic", "id", "message-id", "history"))


class DoorIn(Protocol):
    """The part of the router that dead letters take."""

    clock_ms: Callable[[], int]
    internal: Publisher
    policy: Policy
    rights: Rights

    def publish(self, events: list[Event], publisher: Publisher) -> Ticket: ...


def dead_letter(router: DoorIn, letters_there: Letters, consumer: Consumer, delivery: Delivery, cause: Cause) -> None:
    """Publish a copy to the dead-letter topic and ack the original when the copy is durable."""
    event = delivery.event
    if consumer.side is not None:
        _dead_letter_of_queue(
            router, letters_there, consumer, delivery, cause, consumer.side.dead_letters(event, cause))
        return
    consumer.dead_lettered += 1
    topic = consumer.spec.dead_letter_topic or f"dead-letter/{consumer.name}"
    known = event.properties.dead_letter if event.properties is not None else None      # no header: those are anybody's
    if event.topic == topic:                            # it reads its own dead letters: this one stays one of them
        log.error("consumer %s: the dead letter at %d failed again and stays there", consumer.name, event.offset)
        consumer.ack([delivery])
        return
    history = _with(known.history if known is not None else (), consumer.name, event.topic, delivery.attempts - 1,
                    router.clock_ms(), _reason(cause), _own_ttl_ms(event))
    if history[-1].rounds > ROUNDS_MAX or len(history) > HISTORY_MAX or (
            sum(len(death.topic) for death in history) > HISTORY_CHARS_MAX):
        log.error("consumer %s: the event at offset %d was given up %d times here and at %d stations; it stays here",
                  consumer.name, event.offset, history[-1].rounds - 1, len(history))
        consumer.nack(delivery, consumer.spec.backoff_max_s)
        return
    refusal = router.rights.refuse_dead_letters(consumer.identity, consumer.spec)       # the rules may have changed
    if refusal is not None:
        log.error("consumer %s: dead letter refused: %s", consumer.name, refusal.text)
        consumer.nack(delivery, consumer.spec.backoff_max_s)
        return
    _publish(router, letters_there, consumer, delivery, [_copy(topic, event, delivery, consumer.name, history)])


def _dead_letter_of_queue(
        router: DoorIn, letters_there: Letters, consumer: Consumer, delivery: Delivery, cause: Cause,
        letters: list[Letter]) -> None:
    """A queue lets it go, to where it was told, or for good. What comes back without a rejection ends: see Queue."""
    event = delivery.event
    if not letters:
        consumer.ack([delivery])
        return
    for letter in letters:
        refusal = router.policy.refuse(consumer.identity, Action.PUBLISH, letter.right, router.clock_ms())
        if refusal is not None:
            log.error("queue %s: dead letter refused: %s", consumer.name, refusal.text)
            consumer.nack(delivery, consumer.spec.backoff_max_s)
            return
    consumer.dead_lettered += 1
    known = event.properties.dead_letter if event.properties is not None else None
    history = _with(known.history if known is not None else (), consumer.name, None, delivery.attempts - 1,
                    router.clock_ms(), cause.value, _own_ttl_ms(event), event.topic)
    while len(history) > HISTORY_MAX or sum(len(death.topic) for death in history) > HISTORY_CHARS_MAX:
        history = history[1:]                           # the oldest station
    copies = [_copy(letter.topic, event, delivery, consumer.name, history) for letter in letters]
    for copy, letter in zip(copies, letters):
        assert copy.properties is not None
        copy.properties = msgspec.structs.replace(copy.properties, native=letter.native)
    _publish(router, letters_there, consumer, delivery, copies)


def _publish(router: DoorIn, there: Letters, consumer: Consumer, delivery: Delivery, copies: list[Event]) -> None:
    if delivery.event.partition.index >= 0:             # else its place is another event's after the next start
        place = place_of(delivery.event)
        copies = [copy for copy in copies if not there.take(consumer.name, place, copy.topic)]
    if not copies:
        consumer.ack([delivery])
        return
    router.publish(copies, router.internal).on_done(
        lambda ticket: _stored(consumer, delivery, next(iter(ticket.refusals.values()), None)))


def _reason(cause: Cause) -> str:
    return LIMIT_REACHED if cause is Cause.DELIVERY_LIMIT else cause.value


def _own_ttl_ms(event: Event) -> int | None:
    """The time to live that its publisher gave it."""
    expires_at_ms = event.properties.expires_at_ms if event.properties is not None else None
    return max(expires_at_ms - event.timestamp_ms, 0) if expires_at_ms is not None else None


def _stored(consumer: Consumer, delivery: Delivery, refusal: Refusal | None) -> None:
    if refusal is not None:
        log.error("consumer %s: dead letter refused: %s", consumer.name, refusal.text)
        consumer.nack(delivery, consumer.spec.backoff_max_s)
    else:
        consumer.ack([delivery])


def place_of(event: Event) -> str:
    return f"{event.partition.stream}:{event.partition.index}:{event.offset}"


def _copy(topic: str, event: Event, delivery: Delivery, name: str, history: tuple[Death, ...]) -> Event:
    properties = event.properties or _NO_PROPERTIES
    place = place_of(event)
    headers: Headers = (
        *(header for header in event.headers if header[0] not in _HEADERS),
        ("dead-letter-reason", history[-1].reason), ("dead-letter-consumer", name),
        ("dead-letter-count", str(delivery.attempts - 1)), ("dead-letter-topic", event.topic),
        ("dead-letter-id", place),
        ("dead-letter-history", msgspec.json.encode([msgspec.structs.asdict(death) for death in history]).decode()),
    )
    properties = msgspec.structs.replace(   # it is no repetition of the publisher's message, and does not expire again
        properties, dedupe_id=None, expires_at_ms=None, mqtt_packet_id=None,
        dead_letter=DeadLetter(name, event.topic, place, history))
    return Event(topic, event.payload, 1, event.publisher, event.key, headers, properties)


def revived(event: Event, topic: str) -> Event:
    """A dead letter as the event that it was, under another topic."""
    properties = msgspec.structs.replace(event.properties or _NO_PROPERTIES, dead_letter=None)
    headers = tuple(header for header in event.headers if header[0] not in _HEADERS)
    return Event(topic, event.payload, 1, event.publisher, event.key, headers, properties)


def _with(history: tuple[Death, ...], name: str, topic: str | None, count: int, now_ms: int, reason: str,
          ttl_ms: int | None, first_topic: str = "") -> tuple[Death, ...]:
    """One more station, the last of the result. A consumer that gives it up again for the same reason on the same
    topic (None: on any) adds to its own.
    """
    before = next((death for death in history if (death.consumer, death.reason) == (name, reason)
                   and topic in (None, death.topic)), None)
    others = tuple(death for death in history if death is not before)
    if before is None:
        before = Death(name, reason, topic or first_topic, 0, 0, now_ms, now_ms, ttl_ms)
    return (*others, msgspec.structs.replace(
        before, rounds=before.rounds + 1, count=before.count + count, last_ms=now_ms))
