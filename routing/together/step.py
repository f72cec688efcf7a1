"""Steps: publish events and settle deliveries together, or neither, whenever the node is killed. Router.together.

    may it all be published? ─► intent on disk ─► settle, publish ─► all durable ─► answer; the intent goes with the
         no: refused             = decided                                          consumers' places, in one batch

Once decided it is done, by the next start where this one was killed. What cannot be published then (a full disk, a full
queue) is tried again until it can. Source: the intent of a two-phase commit with one coordinator.
"""
from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from routing.consumers.leases import ack_place
from routing.errors import Reason, Refusal
from routing.event import Event, event_size_bytes
from routing.fairness.shares import Share
from routing.rights.policy import Action
from routing.ticket import Ticket
from routing.together.intents import Intents, Place, mark

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer, Side
    from routing.consumers.registry.registry import ConsumerRegistry
    from routing.cursors.delivery import Delivery
    from routing.publishing.publisher import Publisher
    from routing.publishing.route import RouteTable
    from routing.rights.policy import Policy
    from routing.settings import Limits
    from routing.state import StateTable
    from routing.streams.streams import StreamTable

log = logging.getLogger(__name__)

AGAIN_S = 1.0               # after something could not be published
NOTED_S = 10.0              # and what could be is taken out of what is stored: dedupe ids are not remembered for ever
STEPS_MAX = 10_000          # that are not done; beyond it new ones are refused
STEPS_BYTES_MAX = 256 * 1024 * 1024     # of their events, which are in memory until then
STEPS_PER_TICK = 50         # that are tried again: 5 ms

_DECIDING = object()        # holds the deliveries until it is decided, though their member may go meanwhile
_FULL = Refusal(Reason.QUOTA_EXCEEDED, "a queue that this event goes to is full")


class Core(Protocol):
    """The part of the router that steps need."""

    clock_ms: Callable[[], int]
    internal: Publisher
    limits: Limits
    policy: Policy
    published: int
    registry: ConsumerRegistry
    routes: RouteTable
    state: StateTable
    streams: StreamTable

    def publish(self, events: list[Event], publisher: Publisher) -> Ticket: ...
    def refuse_size(self, event: Event) -> Refusal | None: ...


class Steps:
    """One per router."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._intents = Intents(core.state)
        self._again: dict[str, tuple[list[Event], list[Place], Ticket | None]] = {}
        self._again_s = 0.0
        self._due: deque[str] = deque()                 # of these, to be tried now
        self._partly: deque[str] = deque()              # with more in what is stored than is left
        self._noted_s = 0.0
        self._count = Share("transactions under way", lambda: core.limits.user_share)
        self._bytes = Share("bytes of transactions under way", lambda: core.limits.user_share)
        self._sizes: dict[str, tuple[str, int]] = {}    # user and bytes of each

    def commit(self, events: list[Event], publisher: Publisher,
               settled: Iterable[tuple[Consumer, list[Delivery]]], copies: Iterable[Event] = ()) -> Ticket:
        """Acks the deliveries and publishes the events, or does neither.

        copies: published, too, with the node's rights, as the publisher was allowed what they are copies of.

        The ticket is done when all of it is durable. A refusal stands at the index of its event, or at 0: then nothing
        was done. Deliveries of events that no stream captures are acked, too, but not stored. What is not done yet is
        bounded, and nobody has more than his share of that.
        """
        answer = Ticket(events)
        settled = [(consumer, list(deliveries)) for consumer, deliveries in settled]
        copies = list(copies)
        everything = [*events, *copies]
        user, size = publisher.identity.user, sum(map(event_size_bytes, everything))
        refusals = self._refusals(events, publisher, copies)
        no_room = self._count.refuse(user, STEPS_MAX) or self._bytes.refuse(user, STEPS_BYTES_MAX, size)
        if no_room is not None:
            refusals = {0: no_room}
        if refusals:
            answer.refusals.update(refusals)
            answer.part_done()
            return answer
        now_ms = self._core.clock_ms()
        for event in everything:
            event.timestamp_ms = event.timestamp_ms or now_ms
        intent = secrets.token_hex(8)
        marked = mark(intent, everything)
        places: list[Place] = [
            (consumer.name, delivery.event.partition.stream, delivery.event.partition.index, delivery.event.offset)
            for consumer, deliveries in settled if consumer.spec.durable
            for delivery in deliveries if delivery.event.partition is not None and delivery.event.partition.index >= 0]

        self._sizes[intent] = user, size
        self._count.add(user)
        self._bytes.add(user, size)
        held = [(consumer, delivery, delivery.member) for consumer, deliveries in settled for delivery in deliveries]
        for _, delivery, _ in held:
            delivery.member = _DECIDING

        def decided(ticket: Ticket) -> None:
            if ticket.refusals:
                self._over(intent)
                for consumer, delivery, member in held:
                    delivery.member = member
                    if member not in consumer.members.all:
                        consumer.nack(delivery, 0.0)
                answer.refusals[0] = next(iter(ticket.refusals.values()))
                answer.part_done()
                return
            for consumer, deliveries in settled:
                consumer.ack(deliveries)
            self._core.published += len(marked)
            self._do(intent, marked, places, answer)

        self._intents.put(intent, marked, places).on_done(decided)
        return answer

    def _refusals(self, events: list[Event], publisher: Publisher, copies: list[Event]) -> dict[int, Refusal]:
        """By index in events; of a copy at 0. What is not seen here is decided, and tried until it can be done."""
        found: dict[int, Refusal] = {}
        admitted: list[tuple[Side, Event]] = []
        core = self._core
        for index, event in enumerate(events):
            refusal = core.refuse_size(event)
            if refusal is None:
                refusal = core.policy.refuse(publisher.identity, Action.PUBLISH, event.topic, core.clock_ms())
            if refusal is None:
                refusal = self._full(event, admitted)
            if refusal is not None:
                found[index] = refusal
        for event in copies:
            refusal = core.refuse_size(event) or self._full(event, admitted)
            if refusal is not None:
                found.setdefault(0, refusal)
        for gate, event in admitted:                    # publish() asks again: else each would take room twice
            gate.withdraw(event)
        return found

    def _full(self, event: Event, admitted: list[tuple[Side, Event]]) -> Refusal | None:
        """admitted: where it has taken room is added."""
        for gate in self._core.routes.of(event.topic).gates:
            if not gate.admit(event):
                return _FULL
            admitted.append((gate, event))
        return None

    def _over(self, intent: str) -> None:
        self._intents.drop(intent)
        user, size = self._sizes.pop(intent, ("", -1))
        if size >= 0:                                   # not one of before the start
            self._count.give(user)
            self._bytes.give(user, size)

    def _do(self, intent: str, events: list[Event], places: list[Place], answer: Ticket | None, *,
            again: bool = False) -> None:
        """It is decided."""
        core = self._core
        consumers: dict[Consumer, None] = {}
        for name, stream, index, offset in places:
            consumer, partition = core.registry.by_name.get(name), core.streams.partition(stream, index)
            if consumer is not None and partition is not None:
                ack_place(consumer, partition, offset)  # for good: somebody else may have got it meanwhile
                consumers[consumer] = None

        def published(ticket: Ticket) -> None:
            if ticket.refusals:
                left = [events[number] for number in sorted(ticket.refusals)]
                if not again:
                    log.warning("a transaction waits: %d events cannot be published now: %s", len(left),
                                next(iter(ticket.refusals.values())).text)
                for consumer in consumers:
                    if not consumer.closed:
                        core.registry.checkpoint(consumer)
                if intent not in self._partly and (places or len(left) < len(events)):
                    self._partly.append(intent)
                self._again[intent] = left, [], answer
                return
            for consumer in consumers:
                if not consumer.closed:
                    core.registry.checkpoint(consumer)
            self._over(intent)                          # in the batch that has the places of the consumers
            if answer is not None:
                answer.part_done()

        if events:
            core.publish(events, core.internal).on_done(published)
        else:
            published(Ticket(()))

    def tick(self, now_s: float) -> None:
        """Called every 50 ms."""
        if self._again and not self._due and now_s >= self._again_s:
            self._again_s = now_s + AGAIN_S
            self._due.extend(self._again)
        for _ in range(min(len(self._due), STEPS_PER_TICK)):
            intent = self._due.popleft()
            self._do(intent, *self._again.pop(intent), again=True)
        if self._partly and now_s >= self._noted_s:
            self._note(self._partly.popleft())
            if not self._partly:
                self._noted_s = now_s + NOTED_S

    def _note(self, intent: str) -> None:
        """A part of it is done, which no restart is to do again."""
        found = self._again.get(intent)
        if found is not None:
            self._intents.put(intent, found[0], found[1])
        elif intent in self._intents:                   # it is tried just now
            self._partly.append(intent)

    def restore(self) -> None:
        """After consumers and queues are restored, and the dedupe ids of the log's tail."""
        for intent, events, places in list(self._intents.read()):
            log.info("a transaction that was decided before the start is done now: %d events, %d acks",
                     len(events), len(places))
            self._do(intent, events, places, None)
