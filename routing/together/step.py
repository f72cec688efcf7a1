"""Steps: publish events and settle deliveries together, or neither, whenever the node is killed. Router.together.

    may it all be published? ─► intent on disk ─► settle, publish ─► all durable ─► answer; the intent goes with the
         no: refused             = decided                                          consumers' places, in one batch

Once decided it is done, by the next start where this one was killed. What cannot be published then (a full disk, a full
queue) is tried again until it can. A step may be many megabytes, so all of it is done in pieces, in slices of the
loop's turns, and those of one publisher are done in their order. Source: the intent of a two-phase commit with one
coordinator.
"""
from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from routing.consumers.leases import ack_place
from routing.errors import Reason, Refusal
from routing.event import Event, event_size_bytes
from routing.fairness.line import Line
from routing.fairness.shares import Share
from routing.rights.policy import Action
from routing.ticket import Ticket
from routing.together.intents import Intents, Place, mark

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer, Side
    from routing.consumers.registry.registry import ConsumerRegistry
    from routing.cursors.delivery import Delivery
    from routing.fairness.turns import Turns
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
PIECE = 64                  # events or deliveries, between two looks at the clock: some 0.5 ms

_DECIDING = object()        # holds the deliveries until it is decided, though their member may go meanwhile
_FULL = Refusal(Reason.QUOTA_EXCEEDED, "a queue that this event goes to is full")

Settled = list[tuple["Consumer", list["Delivery"]]]


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
    turns: Turns

    def publish(self, events: list[Event], publisher: Publisher) -> Ticket: ...
    def refuse_size(self, event: Event) -> Refusal | None: ...


class _Publishing:
    """The steps of one publisher."""

    __slots__ = ("line", "undecided")

    def __init__(self, turns: Turns, who: str, emptied: Callable[[], None]) -> None:
        self.line = Line(turns, who, emptied)
        self.undecided: deque[_Step] = deque()          # in their order, with those that come after them


class _Step:
    __slots__ = ("answer", "copies", "events", "intent", "is_decided", "marked", "members", "places", "refusal",
                 "settled")

    def __init__(self, events: list[Event], copies: list[Event], settled: Settled) -> None:
        self.intent = secrets.token_hex(8)
        self.answer = Ticket(events)
        self.events = events
        self.copies = copies
        self.settled = settled
        self.marked: list[Event] = []
        self.places: list[Place] = []
        self.is_decided = False
        self.refusal: Refusal | None = None             # it could not be stored
        self.members: list[Any] = []                    # who has the deliveries
        for _, deliveries in settled:
            for delivery in deliveries:
                self.members.append(delivery.member)
                delivery.member = _DECIDING

    def give_back(self, refusals: dict[int, Refusal]) -> Iterator[None]:
        """Nothing of it is done: whoever had them has them again, or, when he has gone, they go out again."""
        members = iter(self.members)
        for consumer, deliveries in self.settled:
            for count, delivery in enumerate(deliveries, 1):
                delivery.member = next(members)
                if delivery.member not in consumer.members.all:
                    consumer.nack(delivery, 0.0)
                if count % PIECE == 0:
                    yield
        self.answer.refusals.update(refusals)
        self.answer.part_done()


def _when_synced(settled: Settled, call: Callable[[], None]) -> None:
    """Call once all that is settled is on disk, or was refused: maybe at once. Nobody settles what may get lost."""
    ticket = Ticket(())
    for consumer, _ in settled:
        if consumer.has_unsynced:
            for partition in consumer.cursors:
                partition.join(ticket)
    ticket.part_done()
    ticket.on_done(lambda done: call())


class Steps:
    """One per router."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._intents = Intents(core.state)
        self._publishing: dict[Publisher, _Publishing] = {}
        self._retries = Line(core.turns, "transactions that wait for room")
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
        step = _Step(events, list(copies), [(consumer, list(deliveries)) for consumer, deliveries in settled])
        mine = self._publishing.get(publisher)
        if mine is None:
            who = f"a transaction of {publisher.identity.user!r} by {publisher.identity.protocol}"
            mine = self._publishing[publisher] = _Publishing(self._core.turns, who, lambda: self._tidy(publisher))
        mine.undecided.append(step)
        work = self._decide(mine, publisher, step)
        _when_synced(step.settled, lambda: mine.line.add(work))
        return step.answer

    def _decide(self, mine: _Publishing, publisher: Publisher, step: _Step) -> Iterator[None]:
        """May it all be published? Then put it on disk."""
        core, intent = self._core, step.intent
        user, size = publisher.identity.user, 0
        for count, event in enumerate((*step.events, *step.copies), 1):
            size += event_size_bytes(event)
            if count % PIECE == 0:
                yield
        refusal = self._count.refuse(user, STEPS_MAX) or self._bytes.refuse(user, STEPS_BYTES_MAX, size)
        if refusal is not None:
            yield from self._refused(mine, publisher, step, {0: refusal})
            return
        self._sizes[intent] = user, size
        self._count.add(user)
        self._bytes.add(user, size)
        refusals = yield from self._refusals(step.events, publisher, step.copies)
        if refusals:
            yield from self._refused(mine, publisher, step, refusals)
            return
        now_ms = core.clock_ms()
        for number, event in enumerate((*step.events, *step.copies)):
            event.timestamp_ms = event.timestamp_ms or now_ms
            step.marked.append(mark(intent, number, event))
            if number % PIECE == PIECE - 1:
                yield
        for consumer, deliveries in step.settled:
            if not consumer.spec.durable:
                continue
            for start in range(0, len(deliveries), PIECE):
                step.places += [
                    (consumer.name, delivery.event.partition.stream, delivery.event.partition.index,
                     delivery.event.offset)
                    for delivery in deliveries[start:start + PIECE]
                    if delivery.event.partition is not None and delivery.event.partition.index >= 0
                    and delivery.event.offset >= 0]     # else the disk has refused it, after it was delivered
                yield

        def decided(refusal: Refusal | None) -> None:
            step.is_decided, step.refusal = True, refusal
            self._go_on(mine, publisher)

        yield from self._intents.put(intent, step.marked, step.places, decided)

    def _refused(self, mine: _Publishing, publisher: Publisher, step: _Step,
                 refusals: dict[int, Refusal]) -> Iterator[None]:
        """Before it was decided."""
        mine.undecided.remove(step)
        self._over(step.intent)
        self._go_on(mine, publisher)
        yield from step.give_back(refusals)

    def _go_on(self, mine: _Publishing, publisher: Publisher) -> None:
        """Those that are decided are done, in their order."""
        while mine.undecided and mine.undecided[0].is_decided:
            step = mine.undecided.popleft()
            if step.refusal is not None:
                self._over(step.intent)
                mine.line.add(step.give_back({0: step.refusal}))
            else:
                mine.line.add(self._settle_and_publish(step))
        self._tidy(publisher)

    def _tidy(self, publisher: Publisher) -> None:
        mine = self._publishing.get(publisher)
        if mine is not None and not mine.undecided and not mine.line:
            del self._publishing[publisher]

    def _settle_and_publish(self, step: _Step) -> Iterator[None]:
        for consumer, deliveries in step.settled:
            for start in range(0, len(deliveries), PIECE):
                consumer.ack(deliveries[start:start + PIECE])
                yield
        self._core.published += len(step.marked)
        yield from self._do(step.intent, step.marked, step.places, step.answer)

    def _refusals(self, events: list[Event], publisher: Publisher,
                  copies: list[Event]) -> Generator[None, None, dict[int, Refusal]]:
        """By index in events; of a copy at 0. What is not seen here is decided, and tried until it can be done."""
        found: dict[int, Refusal] = {}
        admitted: list[tuple[Side, Event]] = []
        core = self._core
        try:
            for index, event in enumerate(events):
                refusal = core.refuse_size(event)
                if refusal is None:
                    refusal = core.policy.refuse(publisher.identity, Action.PUBLISH, event.topic, core.clock_ms())
                if refusal is None:
                    refusal = self._full(event, admitted)
                if refusal is not None:
                    found[index] = refusal
                if index % PIECE == PIECE - 1:
                    yield
            for index, event in enumerate(copies):
                refusal = core.refuse_size(event) or self._full(event, admitted)
                if refusal is not None:
                    found.setdefault(0, refusal)
                if index % PIECE == PIECE - 1:
                    yield
        finally:
            for gate, event in admitted:                # publish() asks again: else each would take room twice
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
            again: bool = False) -> Iterator[None]:
        """It is decided."""
        core = self._core
        consumers: dict[Consumer, None] = {}
        for count, (name, stream, index, offset) in enumerate(places, 1):
            consumer, partition = core.registry.by_name.get(name), core.streams.partition(stream, index)
            if consumer is not None and partition is not None:
                ack_place(consumer, partition, offset)  # for good: somebody else may have got it meanwhile
                consumers[consumer] = None
            if count % PIECE == 0:
                yield
        refusals: dict[int, Refusal] = {}
        under_way = 1

        def published(start: int, ticket: Ticket | None) -> None:
            nonlocal under_way
            if ticket is not None:
                refusals.update((start + index, refusal) for index, refusal in ticket.refusals.items())
            under_way -= 1
            if not under_way:
                self._published(intent, events, places, refusals, consumers, answer, again=again)

        for start in range(0, len(events), PIECE):
            under_way += 1
            core.publish(events[start:start + PIECE], core.internal).on_done(
                lambda ticket, start=start: published(start, ticket))   # type: ignore[misc]
            yield
        published(0, None)

    def _published(self, intent: str, events: list[Event], places: list[Place], refusals: dict[int, Refusal],
                   consumers: Iterable[Consumer], answer: Ticket | None, *, again: bool) -> None:
        """All of its events are on disk, or could not be published now."""
        for consumer in consumers:
            if not consumer.closed:
                self._core.registry.checkpoint(consumer)
        if not refusals:
            self._over(intent)                          # in the batch that has the places of the consumers
            if answer is not None:
                answer.part_done()
            return
        left = [events[number] for number in sorted(refusals)]
        if not again:
            log.warning("a transaction waits: %d events cannot be published now: %s", len(left),
                        next(iter(refusals.values())).text)
        if intent not in self._partly and (places or len(left) < len(events)):
            self._partly.append(intent)
        self._again[intent] = left, [], answer

    def tick(self, now_s: float) -> None:
        """Called every 50 ms."""
        if self._again and not self._due and now_s >= self._again_s:
            self._again_s = now_s + AGAIN_S
            self._due.extend(self._again)
        if self._retries:
            return                                      # those of the last tick take long
        for _ in range(min(len(self._due), STEPS_PER_TICK)):
            intent = self._due.popleft()
            self._retries.add(self._do(intent, *self._again.pop(intent), again=True))
        if self._partly and now_s >= self._noted_s:
            self._note(self._partly.popleft())
            if not self._partly:
                self._noted_s = now_s + NOTED_S

    def _note(self, intent: str) -> None:
        """A part of it is done, which no restart is to do again."""
        found = self._again.get(intent)
        if found is not None:
            self._retries.add(self._intents.put(intent, found[0], found[1], lambda refusal: None))
        elif intent in self._intents:                   # it is tried just now
            self._partly.append(intent)

    def restore(self) -> None:
        """After consumers and queues are restored, and the dedupe ids of the log's tail."""
        for intent, events, places in list(self._intents.read()):
            log.info("a transaction that was decided before the start is done now: %d events, %d acks",
                     len(events), len(places))
            for _ in self._do(intent, events, places, None):
                pass                                    # nobody is served yet
