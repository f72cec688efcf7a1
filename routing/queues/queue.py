"""Queue: a consumer with bindings, limits, and causes for what it lets go. Made by Queues (queues.py).

    events of its bindings ──┐                            ┌──► members, by priority ──► ack
    events straight to it ───┴──► ready (log, or memory) ─┼──► get() ─────────────────► nack: in front again
                                        ▲                 └──► expired, too many ─┐
                                        └── nack ── unacked ── reject ────────────┴──► dead-letter topic, or the end

The log is the queue: what is ready and not about to be delivered stands there. Loop thread only.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, cast

from routing.consumers.consumer import Consumer, Member
from routing.cursors.cursor import Cursor
from routing.cursors.delivery import Delivery
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.queues.bindings import Binding, Bindings
from routing.queues.browsing import Page, browse
from routing.queues.counted import Uncounted
from routing.queues.depth import Depth, depth_of
from routing.queues.elsewhere import Elsewhere
from routing.queues.leaving.cycles import is_cycle
from routing.queues.leaving.letting_go import LettingGo
from routing.queues.leaving.templates import Letter
from routing.queues.memory import Memory
from routing.queues.options import Cause, QueueOptions
from routing.queues.predicates import Predicate
from routing.queues.priorities import Priorities
from routing.queues.purging import purge
from routing.queues.selecting.members import Selecting, Selective
from routing.queues.taking import Taking
from routing.rights.policy import Identity
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.queues.leaving.letting_go import Clocks


class Owner(Protocol):
    """What a queue asks of all queues."""

    clocks: Clocks

    @property
    def memory_bytes_max(self) -> int: ...

    def bind(self, queue: Queue, binding: Binding, identity: Identity) -> Refusal | None: ...
    def unbind(self, queue: Queue, binding: Binding) -> bool: ...
    def replaced(self, queue: Queue, binding: Binding) -> None: ...
    def letters(self, template: str, event: Event, queue: Queue, cause: Cause) -> list[Letter]: ...
    def delete_later(self, queue: Queue) -> None: ...
    def falls_behind(self, queue: Queue, cursor: Cursor) -> None: ...
    def closed(self, queue: Queue) -> None: ...


class Queue:
    """options and native are as declared. A Side of its consumer and the Judge of its interest."""

    def __init__(self, consumer: Consumer, queues: Owner, topic: str) -> None:
        assert consumer.spec.queue is not None
        self.name = consumer.name
        self.consumer = consumer
        self.options: QueueOptions = consumer.spec.queue
        self.topic = topic                              # straight to it
        self.bindings = Bindings()
        self.exclusive: Member | None = None            # the member that will have no other beside it
        self.used = False                               # it had a member once
        self.is_deleted = False
        self.elsewhere: Elsewhere | None = None         # the other nodes' parts, when it may have some
        self._queues = queues
        self._memory: Memory | None = None
        highest = self.options.max_priority
        self._priorities = Priorities(consumer, highest) if highest is not None else None
        self._letting_go = LettingGo(consumer, self.options, queues.clocks, self._priorities)
        self._taking = Taking(consumer, self._priorities, self._letting_go.expire)
        self._uncounted: Uncounted | None = None
        self._selecting: Selecting | None = None
        consumer.side = self
        consumer.interest.judge = self

    # -- bindings ---------------------------------------------------------------------------------------------

    def bind(self, binding: Binding, identity: Identity) -> Refusal | None:
        """Events from now on. The same filter and predicate again changes nothing.

        Refused: no right to read the filter, a filter that is none, too many bindings.
        """
        return self._queues.bind(self, binding, identity)

    def unbind(self, binding: Binding) -> bool:
        """Only later events stay away. False: there was no such binding."""
        return self._queues.unbind(self, binding)

    # -- members ----------------------------------------------------------------------------------------------

    def attach(self, member: Member, *, priority: int = 0, exclusive: bool = False,
               early: bool = False) -> Refusal | None:
        """Deliver to this member while its credit is above 0, to those of a higher priority first.

        exclusive: refused while there is another member, and as long as it stays others are. Reason.CONFLICT.
        early: as in Consumer.attach().
        """
        if exclusive and self.exclusive is None and self.consumer.members.all:
            return Refusal(Reason.CONFLICT, f"queue {self.name} has consumers, so that none can be exclusive")
        refusal = self.consumer.attach(member, priority, early=early)
        if refusal is None and exclusive:
            self.exclusive = member
        return refusal

    def attach_selecting(self, member: Selective, predicate: Predicate) -> Refusal | None:
        """A member that takes only what the predicate wants, as far as its demand goes, before the others."""
        if self.options.single_active:
            return Refusal(Reason.CONFLICT, f"queue {self.name} has one active consumer, so that none can select")
        refusal = self.attach(member)
        if refusal is None:
            if self._selecting is None:
                self._selecting = Selecting(self.consumer, self._queues.clocks.clock_s)
            self._selecting.add(member, predicate)
        return refusal

    def detach(self, member: Member, *, keep: bool = False) -> None:
        """It takes no more. What it holds unacked goes out again, unless it is kept: then it can still be answered,
        until release(). An auto-delete queue goes with its last member.
        """
        self.consumer.detach(member, keep=keep)

    def release(self, member: Member) -> None:
        """Whatever this member still holds, by get() or after detach(keep=True), goes out again."""
        self.consumer.release(member)

    def get(self, member: Member, answer: Callable[[Delivery | None], None]) -> None:
        """Take the first ready event, whether member is attached or not; its credit and deliver() do not count.

        answer is called once, maybe at once: with None when everything that was published before is looked at and
        nothing is ready, or the queue was deleted meanwhile.
        """
        elsewhere = self.elsewhere
        if elsewhere is None:
            self._taking.get(member, answer)
            return

        def answered(delivery: Delivery | None) -> None:
            if delivery is not None or self.is_deleted or not elsewhere.fetch(
                    lambda: self._taking.get(member, answer)):
                answer(delivery)

        elsewhere.when_decided(lambda: self._taking.get(member, answered))

    def get_here(self, member: Member, answer: Callable[[Delivery | None], None]) -> None:
        """As get(), of what is on this node."""
        self._taking.get(member, answer)

    def when_current(self, call: Callable[[], None]) -> None:
        """Call once everything that was published until now is committed and in the queue: maybe at once."""
        ticket = Ticket(())
        for partition in self.consumer.cursors:
            partition.join(ticket)
        ticket.part_done()
        ticket.on_done(lambda done: call())

    def when_counted(self, call: Callable[[], None]) -> None:
        """As when_current(), and depth() is exact then, unless counting takes very long after a start."""
        if self._uncounted is None:
            self._uncounted = Uncounted(self.consumer, self._queues.clocks)
        uncounted = self._uncounted
        self.when_current(lambda: uncounted.when_counted(call))

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once nothing is ready any more (AMQP 1.0 drain): all that was published before is delivered."""
        self.when_current(lambda: self._taking.when_idle(call))

    def when_looked_through(self, member: Selective, call: Callable[[], None]) -> None:
        """The same for a member that selects: nothing that it wants is ready any more."""
        def current() -> None:
            if self._selecting is not None:
                self._selecting.when_idle(member, call)

        self.when_current(current)

    # -- answers ----------------------------------------------------------------------------------------------

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        self.consumer.ack(deliveries)

    def nack(self, deliveries: Iterable[Delivery], delay_s: float = 0.0) -> None:
        """Ready again, each at its old place, marked and counted (attempts); beyond the delivery limit they go."""
        limit = self.consumer.spec.max_deliveries
        for delivery in deliveries:
            if limit is not None and delivery.attempts >= limit:
                self.consumer.reject(delivery, Cause.DELIVERY_LIMIT)
            else:
                self.consumer.nack(delivery, delay_s)

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Ready again, each at its old place, as if never delivered: it does not count (AMQP 1.0 released)."""
        for delivery in deliveries:
            delivery.attempts -= 1
            self.consumer.nack(delivery, 0.0)

    def reject(self, deliveries: Iterable[Delivery], cause: Cause = Cause.REJECTED) -> None:
        """Never again from this queue: to the dead letters, with a line of history, or gone where there are none."""
        for delivery in deliveries:
            self.consumer.reject(delivery, cause)

    # -- contents ---------------------------------------------------------------------------------------------

    def depth(self) -> Depth:
        return depth_of(self.consumer)

    def purge(self, *, here: bool = False) -> int:
        """Forget what is ready, and say how much that was. What is unacked stays. See when_current().

        here: of this node's part only.
        """
        count = purge(self.consumer)
        if self._priorities is not None:
            self._priorities.clear()
        self._letting_go.purged()
        if self.elsewhere is not None and not here:
            self.elsewhere.purged()
        return count

    def browse(self, limit: int, after: str = "") -> Page:
        """Ready events in order, which stay where they are. after: the next of an earlier page."""
        early = self._priorities.events(limit) if self._priorities is not None and not after else []
        page = browse(self.consumer, limit, after)
        return Page(early + page.events, page.next)

    def restored(self) -> None:
        """Called after a start."""
        if self._priorities is not None:
            self._priorities.restored()
        self._letting_go.restored()

    def in_use(self) -> None:
        """It was declared again or looked into: its time to live (expires_s) starts anew."""
        if self.consumer.attachment.detached_since_s is not None:
            self.consumer.attachment.detached_since_s = self._queues.clocks.clock_s()

    # -- called by the consumer -------------------------------------------------------------------------------

    @property
    def needed(self) -> bool:
        options = self.options
        return (self.bindings.needed or options.dead_letter is not None or options.max_priority is not None
                or (self.elsewhere is not None and self.elsewhere.is_shared))

    def take(self, event: Event, patterns: list[str]) -> bool:
        """Is this event ours? One that only went round in a circle is not: see leaving/cycles.py."""
        letter = event.properties.dead_letter if event.properties is not None else None
        if letter is not None and is_cycle(self.name, letter):
            return False
        return self.bindings.take(event, patterns) and (self.elsewhere is None or self.elsewhere.takes(event))

    def offered(self, events: list[Event]) -> None:
        self._letting_go.offered(events)

    def keep(self, events: list[Event]) -> None:
        memory = self._memory
        if memory is None:
            memory = self._memory = Memory(self._queues.clocks.clock_ms)
            self.consumer.cursors[cast("Partition", memory)] = Cursor(cast("Partition", memory), 0)
        held = self.consumer.in_flight_bytes + memory.bytes
        kept = memory.append(events, self._queues.memory_bytes_max - held)
        self.consumer.dropped += len(events) - len(kept)
        if kept:
            self.consumer.offer(cast("Partition", memory), kept)

    def sift(self, cursor: Cursor, events: list[Event]) -> list[Event]:
        return self._priorities.sift(cursor, events) if self._priorities is not None else events

    def hand_out(self) -> None:
        if self._priorities is not None:
            self._priorities.hand_out()
        if self._selecting is not None:
            self._selecting.hand_out()

    def refused(self, partition: Partition) -> None:
        for binding in self.bindings.refused(partition):
            self._queues.replaced(self, binding)

    def falls_behind(self, cursor: Cursor) -> None:
        self._queues.falls_behind(self, cursor)

    def settled(self, size: int) -> None:
        self._letting_go.settled(size)

    @property
    def is_straight(self) -> bool:
        return self._priorities is None and (self._selecting is None or self._selecting.is_empty)

    @property
    def may_refuse(self) -> bool:
        return self._letting_go.may_refuse

    def admit(self, event: Event) -> bool:
        if not self.bindings.take_new(event, self.consumer.interest.matching(event.topic)):
            return True
        return self._letting_go.admit(len(event.payload))

    def withdraw(self, event: Event) -> None:
        if self.bindings.take_new(event, self.consumer.interest.matching(event.topic)):
            self._letting_go.withdraw(len(event.payload))

    def before_pump(self) -> None:
        if self._priorities is not None:
            self._priorities.step()
        self._letting_go.before_pump()
        self._taking.serve()

    def after_pump(self) -> None:
        self._letting_go.after_pump()
        if self._memory is not None:
            self._memory.forget(self.consumer.cursors[cast("Partition", self._memory)].next_wanted)
        self._taking.told()
        if self.elsewhere is not None:
            self.elsewhere.pumped()

    def handle_deadline(self, now_s: float) -> None:
        self._letting_go.handle_deadline()
        if self._uncounted is not None:
            self._uncounted.look(now_s)

    def refuse_member(self) -> Refusal | None:
        if self.exclusive is None:
            return None
        return Refusal(Reason.CONFLICT, f"queue {self.name} has an exclusive consumer")

    def attached(self) -> None:
        self.used = True

    def detached(self, member: Member) -> None:
        if self.exclusive is member:
            self.exclusive = None
        if self._selecting is not None:
            self._selecting.remove(member)
        if self.options.auto_delete and self.used and not self.consumer.members.all:
            self._queues.delete_later(self)

    def dead_letters(self, event: Event, cause: Cause) -> list[Letter]:
        template = self.options.dead_letter
        return self._queues.letters(template, event, self, cause) if template is not None else []

    def closed(self, reason: str) -> None:
        self.is_deleted = True
        self._taking.closed()
        if self._uncounted is not None:
            self._uncounted.closed()
        self._queues.closed(self)
        if self.elsewhere is not None:
            self.elsewhere.closed()
            self.elsewhere = None
