"""X/$management of a queue or subscription of Service Bus.                 Source: Service Bus, AMQP request/response

    peek-message · renew-lock · schedule-message · cancel-scheduled-message
    receive-by-sequence-number (of deferred ones) · update-disposition
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from protocols.amqp import convert
from protocols.amqp.azure.desk import Answer, Request
from protocols.amqp.azure.entities import DEFERRED, Entities
from protocols.amqp.azure.entity_reading import (
    ALWAYS_MS,
    NUMBER,
    Locked,
    dead_letter,
    entity_marks,
    number_of,
    place_of_number,
)
from protocols.amqp.codec.conditions import UNAUTHORIZED, DecodeFault, LinkFault
from protocols.amqp.codec.performatives import Error
from protocols.amqp.codec.types import Array, Timestamp, Uuid, Value
from protocols.amqp.nodes.addresses import address_of
from routing.consumers.consumer import Consumer
from routing.errors import Refusal
from routing.event import Event
from routing.queues.predicates import PAIRS_MAX, HeadersMatch
from routing.queues.queue import Queue
from routing.queues.scheduled import cancel
from routing.rights.policy import Identity
from routing.router import Router
from routing.steps import in_steps
from routing.ticket import when_all

VENDOR = "com.microsoft:"
PEEKED_MAX, PAGE = 250, 20
PEEKED_BYTES_MAX = 1024 * 1024  # of payloads in one answer; one message always fits, and who peeks asks on
SCHEDULED_MAX = 200             # messages of one request
_TIMESTAMPS, _LONGS = 0x83, 0x81


class BadRequest(ValueError):
    """Answered with 400."""


class EntityRequests:
    """Of one connection and one entity."""

    def __init__(self, name: str, router: Router, entities: Entities, connection: Any, reply_topic: convert.ReplyTo,
                 ) -> None:
        self._name = name
        self._router = router
        self._entities = entities
        self._connection = connection
        self._reply_topic = reply_topic
        self._locked: dict[UUID, Locked] = {}
        self._doing = {
            "peek-message": self._peek, "renew-lock": self._renew, "schedule-message": self._schedule,
            "cancel-scheduled-message": self._cancel, "receive-by-sequence-number": self._receive,
            "update-disposition": self._update}

    def ask(self, request: Request, answer: Answer) -> None:
        """Raises LinkFault."""
        operation = request.text("operation").removeprefix(VENDOR)
        work = self._doing.get(operation)
        if work is None:
            answer(501, f"{operation[:100]} is not served", None)
            return
        try:
            if not isinstance(request.value, dict):
                raise BadRequest("the body is no map")
            work(request.value, answer)
        except BadRequest as error:
            answer(400, str(error), None)
        except DecodeFault as fault:
            answer(400, fault.text, None)

    def close(self) -> None:
        """The connection has gone: what it holds goes back."""
        for locked in set(self._locked.values()):
            locked.leave()
        self._locked.clear()

    def _queue(self, name: str) -> Queue:
        queue = self._entities.queue(name, self._connection.identity)
        if not self._router.rights.may_attach(self._connection.identity, queue.consumer):
            raise LinkFault(UNAUTHORIZED, "a rule denies part of the queue")
        return queue

    def _outward(self, event: Event, attempts: int = 1) -> bytes:
        return convert.outward(event, attempts - 1, self._router.clock_ms(), self._router.ledger.lost, address_of,
                               marks=entity_marks, counted=True)

    # -- looking ----------------------------------------------------------------------------------------------

    def _peek(self, asked: dict[Value, Value], answer: Answer) -> None:
        first, count = _number(asked, "from-sequence-number"), min(_number(asked, "message-count"), PEEKED_MAX)
        queue = self._queue(self._name)
        if count < 1:
            raise BadRequest("message-count is 1 at least")

        def pages() -> Iterator[None]:
            found: list[Event] = []
            alone = len(queue.consumer.cursors) == 1    # else one from each partition may be next
            after: str | None = f"0:{max(first - 1, 0) // 1_000}" if alone else ""
            size = 0
            while after is not None and len(found) < count and size < PEEKED_BYTES_MAX and not queue.is_deleted:
                page = queue.browse(PAGE, after)
                more = [event for event in page.events if number_of(event) >= first]
                found += more
                size += sum([len(event.payload) for event in more])
                after = page.next
                yield
            found = _fitting(sorted(found, key=number_of)[:count])
            if found:
                answer(200, "OK", {"messages": [{"message": self._outward(event)} for event in found]})
            else:
                answer(204, "there is none", {"messages": []})

        queue.when_current(lambda: in_steps(self._router, pages()))

    # -- locks ------------------------------------------------------------------------------------------------

    def _renew(self, asked: dict[Value, Value], answer: Answer) -> None:
        """A lock lasts as long as its link; so there is nothing to do."""
        tokens = _items(asked, "lock-tokens")
        answer(200, "OK", {"expirations": Array(_TIMESTAMPS, [Timestamp(ALWAYS_MS)] * len(tokens))})

    def _receive(self, asked: dict[Value, Value], answer: Answer) -> None:
        numbers = list(dict.fromkeys(_items(asked, "sequence-numbers")))
        if not numbers or len(numbers) > PAIRS_MAX or not all(isinstance(number, int) for number in numbers):
            raise BadRequest(f"sequence-numbers are 1 to {PAIRS_MAX} numbers")
        keeps = asked.get("receiver-settle-mode") != 0
        queue = self._queue(self._name + DEFERRED)
        locked = Locked(queue, self._connection.identity, len(numbers))
        refusal = queue.attach_selecting(
            locked, HeadersMatch("any", tuple((NUMBER, int(number)) for number in numbers)))
        if refusal is not None:
            raise BadRequest(refusal.text)

        def looked_through() -> None:
            locked.demand = 0
            if self._connection.closed or not locked.held:
                locked.leave()
                answer(404, "there is no such deferred message", None)
                return
            answer(200, "OK", {"messages": [
                {"message": self._outward(one.event, one.attempts), "lock-token": Uuid(bytes=token.bytes)}
                for token, one in sorted(locked.held.items(), key=lambda item: number_of(item[1].event))]})
            if keeps:
                self._locked.update(dict.fromkeys(locked.held, locked))
            else:
                queue.ack(list(locked.held.values()))
                locked.leave()

        queue.when_looked_through(locked, looked_through)

    def _update(self, asked: dict[Value, Value], answer: Answer) -> None:
        tokens, status = _items(asked, "lock-tokens"), asked.get("disposition-status")
        if status not in ("completed", "abandoned", "defered", "suspended"):
            raise BadRequest("disposition-status is completed, abandoned, defered or suspended")
        found = [(token, self._locked.get(token))
                 for token in {UUID(bytes=token.bytes) for token in tokens if isinstance(token, UUID)}]
        if not all(isinstance(token, UUID) for token in tokens) or not all(locked for _, locked in found):
            answer(410, "the lock is lost", None)
            return
        for token, locked in found:
            assert locked is not None
            del self._locked[token]
            held = locked.held.pop(token, None)
            if held is None:                    # the queue is gone
                continue
            if status == "completed":
                locked.queue.ack([held])
            elif status == "suspended":
                told = {name: asked.get(name) for name in ("deadletter-reason", "deadletter-description")}
                dead_letter(self._router, self._connection.parts.work.publisher, locked.queue, held, Error(
                    str(told["deadletter-reason"] or ""), str(told["deadletter-description"] or "")),
                    of=self._name)
            else:
                locked.queue.nack([held])
            if not locked.held:
                locked.leave()
        answer(200, "OK", None)

    # -- later ------------------------------------------------------------------------------------------------

    def _schedule(self, asked: dict[Value, Value], answer: Answer) -> None:
        messages = asked.get("messages")
        if not isinstance(messages, list) or not 0 < len(messages) <= SCHEDULED_MAX:
            raise BadRequest(f"messages are 1 to {SCHEDULED_MAX}")
        identity = self._connection.identity
        topic = self._topic(identity)
        events = []
        for one in messages:
            raw = one.get("message") if isinstance(one, dict) else None
            if not isinstance(raw, bytes):
                raise BadRequest("a message is binary")
            found = convert.read(raw, publisher=self._connection.container_id, settled=False,
                                 now_ms=self._router.clock_ms(), topic_of=self._reply_topic)
            if not found.is_of(identity.user):
                raise LinkFault(UNAUTHORIZED, "user-id is not who has logged in")
            event = found.event
            event.topic = topic
            events.append(event)

        def stored(ticket: Any) -> None:
            if ticket.refusals:
                answer(400, ticket.refusals[min(ticket.refusals)].text, None)
            else:
                answer(200, "OK", {"sequence-numbers": Array(_LONGS, [number_of(event) for event in events])})

        self._router.publish(events, self._connection.parts.work.publisher).on_done(stored)


    def _topic(self, identity: Identity) -> str:
        """What a sender publishes to."""
        topic = self._entities.topic(self._name, identity)
        return topic if topic is not None else self._entities.queue(self._name, identity, reads=False).topic

    def _cancel(self, asked: dict[Value, Value], answer: Answer) -> None:
        """Of all queues that would get them. One that is due is not there any more to be cancelled."""
        numbers = _items(asked, "sequence-numbers")
        if not 0 < len(numbers) <= SCHEDULED_MAX or not all(
                isinstance(number, int) and number > 0 for number in numbers):
            raise BadRequest(f"sequence-numbers are 1 to {SCHEDULED_MAX} numbers")
        topic = self._topic(self._connection.identity)

        def cancelled() -> Iterator[None]:
            changed: dict[Consumer, None] = {}
            is_all = True
            for number in numbers:
                assert isinstance(number, int)
                found = cancel(self._router, topic, *place_of_number(number))
                is_all = is_all and bool(found)
                changed.update(dict.fromkeys(found))
                yield
            stored = [ticket for consumer in changed if (ticket := consumer.checkpoint()) is not None]
            when_all(stored, lambda refusal: told(is_all, refusal))

        def told(is_all: bool, refusal: Refusal | None) -> None:
            if refusal is not None:
                answer(500, refusal.text, None)
            elif not is_all:
                answer(404, "there is no such scheduled message (any more)", None)
            else:
                answer(200, "OK", None)

        in_steps(self._router, cancelled())


def _fitting(events: list[Event]) -> list[Event]:
    size = 0
    for index, event in enumerate(events):
        size += len(event.payload)
        if index and size > PEEKED_BYTES_MAX:
            return events[:index]
    return events


def _number(asked: dict[Value, Value], name: str) -> int:
    found = asked.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise BadRequest(f"{name} is a number")
    return int(found)


def _items(asked: dict[Value, Value], name: str) -> list[Value]:
    found = asked.get(name)
    if isinstance(found, Array):
        return found.items
    if isinstance(found, list):
        return found
    raise BadRequest(f"{name} are an array")

