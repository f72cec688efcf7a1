"""Consumer: the door out. A durable named reader of streams, whatever the protocol of its members.

At the tail of a partition it is handed the events just committed, from memory. Without credit, or behind, it reads the
log when it can: the log is the queue, so a slow consumer costs disk, not memory. What it has not been told to be done
(acked) comes again after a crash; see cursor.py for the states of an event and registry.py for what is stored.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.consumers.attachment import Attachment
from routing.consumers.definition.members import Members, Mode
from routing.consumers.definition.spec import ConsumerSpec as ConsumerSpec
from routing.consumers.delivery import screening, settle
from routing.consumers.delivery.early import returned, synced
from routing.consumers.delivery.handout import hand_out, repeat
from routing.consumers.delivery.readahead import PARKED_BYTES, PARKED_EVENTS, READ_SCANNED, fitting, park, read
from routing.consumers.delivery.takeback import AT_ONCE, take_back
from routing.consumers.delivery.untracked import Untracked
from routing.consumers.places import Places
from routing.cursors.cursor import Cursor, Delivery
from routing.cursors.lag import Lag, lag_of
from routing.cursors.timetable import Timetable
from routing.errors import Reason, Refusal
from routing.event import Event, is_dead_letter
from routing.filters.interest import Interest
from routing.queues.leaving.templates import Letter
from routing.queues.options import Cause
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.letters import Letters
    from routing.consumers.rights import Rights
    from routing.cursors.counting import Counting
    from routing.fairness.accounts import Accounts
    from routing.filters.interest import AnswerMemory
    from routing.log.partition import Partition
    from routing.settings import Limits
    from routing.ticket import Ticket


class Member(Protocol):
    """A reader attached to a consumer, such as an MQTT session."""

    identity: Identity
    credit: int     # deliveries it takes now: the consumer lowers it, the member raises it and then calls ready()

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Take deliveries in order. May ack at once. Must not raise."""

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """The consumer was deleted or handed to somebody else."""


class EarlyMembers(Protocol):
    """registry/early.py."""

    members: int

    def passed(self, consumer: Consumer, partition: Partition) -> None: ...


class Keeper(Protocol):
    """What a consumer asks of the registry that made it."""

    limits: Limits
    rights: Rights
    clock_s: Callable[[], float]
    clock_ms: Callable[[], int]
    accounts: Accounts
    answer_memory: AnswerMemory
    counting: Counting
    letters: Letters
    dirty: dict[Consumer, None]

    @property
    def early(self) -> EarlyMembers: ...
    def schedule(self, consumer: Consumer) -> None: ...
    def changed(self, consumer: Consumer) -> None: ...
    def checkpoint(self, consumer: Consumer) -> Ticket | None: ...
    def wake_at(self, consumer: Consumer, due_s: float) -> None: ...
    def later(self, work: Iterator[None]) -> None: ...
    def expires(self, consumer: Consumer) -> None: ...
    def add_filter(self, consumer: Consumer, pattern: str, *, from_now: bool) -> None: ...
    def remove_filter(self, consumer: Consumer, pattern: str) -> None: ...
    def next_untracked_place(self) -> int: ...
    def lost_to_retention(self, consumer: Consumer, records: int) -> None: ...
    def dead_letter(self, consumer: Consumer, delivery: Delivery, cause: Cause) -> None: ...


class Side(Protocol):
    """What a queue adds to its consumer, which calls it. Must not raise."""

    def offered(self, events: list[Event]) -> None:
        """These are its own: just committed, or given out before that."""

    def keep(self, events: list[Event]) -> None:
        """These were just published, are its own, and no stream captures them."""

    def settled(self, size: int) -> None:
        """So many payload bytes are done with."""

    @property
    def is_straight(self) -> bool:
        """Does what is published now go to the next member, if nothing waits?"""
        ...

    @property
    def may_refuse(self) -> bool:
        """Does the door have to ask it?"""
        ...

    def admit(self, event: Event) -> bool:
        """May this event be published to it? False: it is full."""
        ...

    def withdraw(self, event: Event) -> None:
        """One that was admitted in this turn of the loop is not published now."""

    def sift(self, cursor: Cursor, events: list[Event]) -> list[Event]:
        """Those of the events that wait for their turn; it keeps the others, which go before it."""
        ...

    def hand_out(self) -> None:
        """There may be credit: what goes first goes now."""

    def refused(self, partition: Partition) -> None:
        """What waited there for the disk does not come there."""

    def falls_behind(self, cursor: Cursor) -> None:
        """There is more to be read for members who would take it than a turn has time for."""

    def before_pump(self) -> None: ...

    def after_pump(self) -> None: ...

    def handle_deadline(self, now_s: float) -> None:
        """Called with every deadline of the consumer: whatever of it is the queue's is to be asked for again."""

    def refuse_member(self) -> Refusal | None:
        """Why nobody can attach now."""
        ...

    def attached(self) -> None: ...

    def detached(self, member: Member) -> None: ...

    def dead_letters(self, event: Event, cause: Cause) -> list[Letter]:
        """What becomes of an event that it lets go: copies of it; none: that is the end of it."""
        ...

    def closed(self, reason: str) -> None: ...


class Consumer:
    """See the module's head. Loop thread only. Made by ConsumerRegistry.open()."""

    def __init__(self, spec: ConsumerSpec, identity: Identity, registry: Keeper) -> None:
        self.spec = spec
        self.name = spec.name
        self.identity = identity                        # whose rights decide what it may read
        self.interest = Interest(
            lambda topic: registry.rights.may_read(self.identity, topic), registry.answer_memory)
        self.places = Places(self.interest)
        self.cursors = self.places.cursors
        self.members: Members[Member] = Members(spec.mode)
        self.paused = False
        self.held = False                               # for a moment: what is to be delivered is not known yet
        self.closed = False
        self.generation = registry.clock_ms() // 1000   # answers to what was delivered before a seek do not count
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.account = registry.accounts.of(identity.user)
        self.delivered = 0
        self.acked = 0
        self.redelivered = 0
        self.dead_lettered = 0
        self.expired = 0                                # before they could be delivered
        self.sent_does_not_expire = False               # set by MQTT sessions [MQTT-4.3.3-7]
        self.dropped = 0                                # untracked events that found no member, or no room
        self.side: Side | None = None                   # set by the queue that this is
        self.untracked: Untracked[Member] | None = None         # those that are kept, see keep_untracked()
        self.attachment = Attachment(registry.clock_s())
        self._registry = registry
        self.counted_for: str | None = None             # the registry's: whose share of consumers it counts to
        self.wakes_s: float | None = None               # the registry's: when it is to be woken by handle_deadline()
        self._scheduled = False
        self._turn = 0
        self._returning = 0                             # members that have gone, of which some is still held
        self._payload_bytes = PARKED_BYTES              # of an event delivered last
        self._timetable = Timetable()                   # ack timeouts and delayed redelivery

    @property
    def filters(self) -> dict[str, None]:
        return self.interest.patterns

    @property
    def is_queue(self) -> bool:
        return self.side is not None

    @property
    def is_read(self) -> bool:
        """Somebody is attached."""
        return bool(self.members.all)

    @property
    def is_named(self) -> bool:
        """Durable, and made by somebody who gave it a name: those of MQTT sessions and the like have a slash in it."""
        return self.spec.durable and "/" not in self.name

    # -- members ----------------------------------------------------------------------------------------------

    def attach(self, member: Member, priority: int = 0, *, early: bool = False) -> Refusal | None:
        """Add a member; it gets events while its credit is above 0. One of lower priority gets what no other takes.

        early: of a queue, before they are on disk, where the limits allow it. It knows a delivery by the object that
        deliver() has brought, and by nothing that outlives the node.
        """
        if self.closed:
            return Refusal(Reason.NOT_FOUND, f"consumer {self.name} was deleted")
        if self.spec.mode is Mode.EXCLUSIVE and self.members.all:
            return Refusal(Reason.CONFLICT, f"consumer {self.name} is exclusive and has a reader")
        if not self._registry.rights.may_attach(member.identity, self):
            return Refusal(Reason.NOT_AUTHORIZED, f"a rule denies user {member.identity.user} part of {self.name}")
        if self.side is not None:
            refusal = self.side.refuse_member()
            if refusal is not None:
                return refusal
            self.side.attached()
        early = early and self._registry.limits.early_delivery
        self.members.add(member, priority, early=early)
        self._registry.early.members += early
        for cursor in self.cursors.values():            # what is on its way to the disk comes first
            cursor.skipped_to = cursor.partition.next_offset
        self.attachment.detached_since_s = None
        self._begin_delivery()
        return None

    def take_spec(self, spec: ConsumerSpec) -> None:
        """Take new options. Mode and name are the old ones, and where it started counts for what is still to come."""
        before, self.spec = self.spec, msgspec.structs.replace(spec, start=self.spec.start)
        if spec.expires_s != before.expires_s:
            self._registry.expires(self)
        if self.members.all:
            self._begin_delivery()

    def _begin_delivery(self) -> None:
        if self.spec.durable:
            self.attachment.begin(lambda: self._registry.checkpoint(self), self.ready)
        else:
            self.ready()

    @property
    def may_give(self) -> bool:
        """What is delivered now is marked if a crash brings it again."""
        return self.attachment.stored or not self.spec.durable

    @property
    def is_returning(self) -> bool:
        """What somebody held who has gone is on its way back."""
        return self._returning > 0

    @property
    def has_unsynced(self) -> bool:
        """Some of what members hold, or have answered, is not on disk yet."""
        return any(cursor.unsynced for cursor in self.cursors.values())

    def begin_giving(self) -> None:
        """For one who takes without being a member: ready() when may_give is so."""
        if not self.attachment.giving:
            self.attachment.giving = True
            self._begin_delivery()

    def end_giving(self) -> None:
        if self.attachment.giving:
            self.attachment.giving = False
            self.touch()

    def detach(self, member: Member, *, keep: bool = False) -> None:
        """Remove a member. What it holds unacked goes out again, in order, with attempts raised.

        keep: not before release(), until which it may be answered.
        """
        was_early = self.members.is_early(member)
        if not self.members.remove(member):
            return
        self._registry.early.members -= was_early
        if not keep:
            self._take_back(member)
        if not self.members.all:
            self.attachment.detached_since_s = self._registry.clock_s()
        self.touch()
        self.ready()
        if self.side is not None:
            self.side.detached(member)

    def _take_back(self, member: Member) -> None:
        if self.untracked is not None:
            self.untracked.take_back(member)
        returned(self, member)
        self._returning += 1
        work = self._return_all(member)
        if self.in_flight > AT_ONCE:
            self._registry.later(work)
        else:
            list(work)

    def _return_all(self, member: Member) -> Iterator[None]:
        try:
            yield from take_back(self, member)
        finally:
            self._returning -= 1                        # whatever happens, or nothing would go out any more
        self.touch()
        self.ready()

    def release(self, member: Member) -> None:
        """What somebody holds who is no member (any more) goes out again, in order, with attempts raised."""
        self._take_back(member)

    def ready(self, member: Member | None = None) -> None:
        """Credit has grown, or something waits: pump at the end of this loop turn. Cheap to call often."""
        if not self._scheduled and not self.closed:
            self._scheduled = True
            self._registry.schedule(self)

    def pause(self) -> None:
        """Deliver nothing until resume(), also over a restart."""
        self.paused = True
        self._registry.changed(self)

    def resume(self) -> None:
        self.paused = False
        self._registry.changed(self)
        self.ready()

    # -- filters ----------------------------------------------------------------------------------------------

    def add_filter(self, pattern: str, identity: Identity) -> Refusal | None:
        """Want more topics, from now on. Adding a filter again changes nothing."""
        if pattern in self.filters:
            return None
        refusal = self._registry.rights.check_subscribe(identity, pattern)
        if refusal is not None:
            return refusal
        self._registry.add_filter(self, pattern, from_now=True)
        return None

    def remove_filter(self, pattern: str) -> bool:
        """Stop wanting a filter; what waits for it is not delivered any more. False when it was not there."""
        if pattern not in self.filters:
            return False
        self._registry.remove_filter(self, pattern)
        self.places.drop_waiting(lambda event: not self.interest.wants_event(event))
        if self.untracked is not None:
            self.untracked.drop(lambda event: not self.interest.wants(event.topic))
        return True

    def filters_changed(self, *, count_anew: bool = True) -> None:
        """Called by the registry: filters, rights or streams are not what they were.

        count_anew: what stands in the log behind the positions may be wanted now, or not any more.
        """
        self.interest.forget_answers()
        if count_anew:
            self.places.count_anew()
        self._registry.changed(self)

    def rules_changed(self) -> None:
        """Called by the registry: who may read what is not what it was. Nothing in memory stays that is denied now."""
        self.filters_changed()
        rights = self._registry.rights
        self.places.drop(lambda event: not rights.may_read_event(self.identity, event))
        if self.untracked is not None:
            self.untracked.drop(lambda event: not rights.may_read_event(self.identity, event))
        for member in list(self.members.all):
            if member.identity.user != self.identity.user and not rights.may_share(member.identity, self):
                self.detach(member)
                member.consumer_closed(self, "the rules do not allow it any more")

    def wants(self, topic: str) -> bool:
        """True when a filter matches the topic and the owner may read it."""
        return self.interest.wants(topic)

    def may_take(self, topic: str) -> bool:
        """May the owner read a topic that one of the filters matches?"""
        return self.interest.wants(topic, matched=True)

    # -- events in --------------------------------------------------------------------------------------------

    def offer(self, partition: Partition, events: list[Event]) -> None:
        """Committed events of one topic that it wants, in order. Called by the router for every group."""
        cursor = self.cursors.get(partition)
        if cursor is None or self.closed:               # closed: its filters are on their way out
            return
        if cursor.unsynced is not None:
            last = events[-1].offset
            out = synced(self, cursor, last + 1)
            events = [event for event in events if event.offset not in out]
            if not events:
                if not cursor.behind:
                    cursor.position = max(cursor.position, last + 1)
                return
        if events[0].offset < cursor.position or self.interest.by_event:
            if events[0].offset < cursor.position:      # purged on its way to the disk: now it may be stored as such
                self.touch()
            self.forget_fresh()
            events = [event for event in events if event.offset >= cursor.position and self.interest.wants_event(event)]
            if not events:
                return
        if cursor.tail_stored:                          # what is stored of it is not so any more
            cursor.tail_stored = False
            self.touch()
        if self.side is not None:
            self.side.offered(events)
            last = events[-1].offset
            events = self.side.sift(cursor, events)
            if not events:
                if not cursor.behind:
                    cursor.position = last + 1
                return
        if cursor.behind:
            cursor.backlog.committed(len(events), events[0].offset, events[-1].offset, events[0].timestamp_ms)
            return
        room = self._registry.limits.consumer_pending_events - len(cursor.waiting)
        if self.spec.mode is Mode.KEY_SHARED:           # what waits there is not parked, see park()
            room = min(room, fitting(cursor, events))
        if room < len(events):
            room = max(room, 0)
            cursor.leave(events[room:])
            events = events[:room]
        else:
            cursor.position = events[-1].offset + 1
        cursor.waiting.extend(events)
        if not self._scheduled:
            self.ready()

    def held_back(self, partition: Partition, offset: int) -> None:
        """Events from offset on, some of which it may want, are to be had and are not offered: it reads the log."""
        cursor = self.cursors.get(partition)
        if cursor is None:
            return
        if cursor.tail_stored:
            cursor.tail_stored = False
            self.touch()
        if cursor.behind:
            cursor.backlog.grown()
            return
        cursor.position = max(cursor.position, offset)
        cursor.backlog.restart(cursor.position)
        cursor.behind = True
        self.ready()

    def keep_untracked(self) -> None:
        """Events that no stream captures are kept in memory until they are acked. Idempotent."""
        if self.untracked is None:
            self.untracked = Untracked(self)

    def offer_untracked(self, events: list[Event]) -> None:
        """Events that no stream captures: kept, or delivered at most once, to a member with credit."""
        if self.interest.by_event:
            events = [event for event in events if self.interest.wants_event(event)]
        if any(map(is_dead_letter, events)):
            events = [event for event in events if self._registry.rights.may_read_event(self.identity, event)]
        if not events:
            return
        if self.side is not None:
            self.side.keep(events)
            return
        if self.untracked is not None:
            self.dropped += self.untracked.offer(
                events, self._registry.limits.untracked_bytes_max, self._registry.next_untracked_place)
            self.ready()
            return
        member = self.members.next()
        if member is None or member.credit < len(events) or self.paused:
            self.dropped += len(events)
            return
        self.hand_untracked(member, [Delivery(event, 1, member) for event in events])

    def hand_untracked(self, member: Member, deliveries: list[Delivery]) -> None:
        """Deliver what nobody holds on to here. For untracked.py."""
        self.delivered += len(deliveries)
        member.credit -= len(deliveries)
        member.deliver(self, deliveries)

    # -- events out -------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Hand out what waits while there is credit. Called by the registry once per turn after ready()."""
        self._scheduled = False
        if self.closed or self._returning:
            return
        if self.side is not None:
            self.side.before_pump()
        if self.members.all and not (self.paused or self.held) and self.may_give:
            if self.untracked is not None:
                self.untracked.pump()
            if self.side is not None:
                self.side.hand_out()
            budget = READ_SCANNED
            cursors = list(self.cursors.values())
            self._turn += 1                             # each partition is first in its turn
            start = self._turn % len(cursors) if cursors else 0
            for cursor in cursors[start:] + cursors[:start]:
                budget = self._pump_cursor(cursor, budget)
        if self.side is not None:
            self.side.after_pump()
        for cursor in self.cursors.values():
            if cursor.waiting and not self._scheduled:
                park(cursor, self.spec.mode)

    def _pump_cursor(self, cursor: Cursor, budget: int) -> int:
        if cursor.again and not repeat(self, cursor):
            return budget
        share = 0                                       # of what waits, so that each gets as much, at a time
        while True:
            if not cursor.waiting:
                share = 0
                appetite = min(self.room(), self.members.credit()) if cursor.behind else 0
                if appetite <= 0:
                    return budget
                if budget <= 0:
                    self.ready()
                    if self.side is not None:
                        self.side.falls_behind(cursor)
                    return budget
                if self.side is not None and self._payload_bytes * PARKED_EVENTS <= PARKED_BYTES:
                    appetite = max(appetite, PARKED_EVENTS)     # what a prefetch of 1 leaves may wait in memory
                budget -= max(read(self, cursor, appetite, budget), 1)
            else:
                share = share or self.members.share(len(cursor.waiting))
                if not hand_out(self, cursor, share):
                    return budget

    def send(self, cursor: Cursor, member: Member, deliveries: list[Delivery], size: int) -> None:
        """Deliver and take into account. Called by handout.py, which has chosen the member. size: payload bytes."""
        count = len(deliveries)
        self._payload_bytes = size // count
        in_flight = cursor.in_flight
        dead_letters = may_expire = early = False
        for delivery in deliveries:
            event = delivery.event
            in_flight[event.offset] = delivery
            if event.properties is not None:
                dead_letters = dead_letters or event.properties.dead_letter is not None
                may_expire = may_expire or event.properties.expires_at_ms is not None
                early = early or event.properties.deliver_at_ms is not None
        if deliveries[0].event.offset < cursor.repeats_below:
            for delivery in deliveries:
                if delivery.event.offset < cursor.repeats_below and delivery.attempts == 1:
                    delivery.attempts = 2
        if self.spec.ack_timeout_s is not None:
            for delivery in deliveries:
                self.later(self.spec.ack_timeout_s, cursor, delivery)
        self.hold(count, size)
        self.delivered += count
        member.credit -= count
        self.touch()
        if early:
            deliveries = screening.due(self, cursor, member, deliveries, self._registry.clock_ms())
        if may_expire:
            deliveries = screening.unexpired(self, cursor, member, deliveries, self._registry.clock_ms())
        if dead_letters:
            deliveries = screening.readable(self, member, deliveries, self._registry.rights)
        if deliveries:
            member.deliver(self, deliveries)

    def appetite(self) -> int:
        """What members would take now, or as soon as it is stored that they are there."""
        if not self.members.all or self.paused or self.held:
            return 0
        return max(min(self.room(), self.members.credit()), 0)

    def room(self) -> int:
        """Deliveries that the in-flight windows allow now."""
        return self.spec.max_in_flight - self.in_flight if self.room_bytes() > 0 else 0

    def room_bytes(self) -> int:
        """Payload bytes that may still go in flight."""
        return self.account.room(self, self._registry.limits.in_flight_bytes_max - self.in_flight_bytes)

    def hold(self, count: int, size: int) -> None:
        """So many more are in flight, with so many payload bytes. Negative: they are not any more."""
        self.in_flight += count
        self.in_flight_bytes += size
        self.account.hold(size)

    @property
    def returned_bytes_max(self) -> int:
        """Payload bytes kept in memory, per partition, of what waits to be delivered again."""
        return self._registry.limits.in_flight_bytes_max

    # -- answers ----------------------------------------------------------------------------------------------

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """These are done. Unknown ones (acked before, or seeked away) are ignored."""
        settle.ack(self, deliveries)

    def nack(self, delivery: Delivery, delay_s: float | None = None) -> None:
        """Not done: deliver again, after delay_s, or after the back-off when None and a limit of deliveries is set."""
        settle.nack(self, delivery, delay_s)

    def reject(self, delivery: Delivery, cause: Cause = Cause.REJECTED) -> None:
        """Not done, and not to be delivered again: it goes to the dead letters, or nowhere if this queue has none."""
        settle.reject(self, delivery, cause)

    def extend(self, delivery: Delivery, seconds: float) -> None:
        """More time before the ack timeout of a delivery."""
        settle.extend(self, delivery, seconds)

    def settled(self, count: int, size: int = 0) -> None:
        """So many wanted events are done, of so many payload bytes where that is known. For settle.py and leases.py."""
        if not count:
            return
        if self.side is not None:
            self.side.settled(size)
        self.acked += count
        self.touch()
        if not self._scheduled:
            self.ready()

    def to_dead_letters(self, cursor: Cursor, delivery: Delivery, cause: Cause = Cause.DELIVERY_LIMIT) -> None:
        """Publish to the dead-letter topic; the event stays unacked here until that copy is durable.

        attempts of the delivery: that of the one that is not made any more.
        """
        settle.hold_dead_letter(self, cursor, delivery)
        self._registry.dead_letter(self, delivery, cause)

    def later(self, delay_s: float, cursor: Cursor, delivery: Delivery) -> None:
        """See to this delivery after delay_s, unless it is settled before."""
        due_s = self._registry.clock_s() + delay_s
        self._timetable.add(
            due_s, cursor, delivery, in_flight=self.in_flight + sum(len(one.delayed) for one in self.cursors.values()))
        self._registry.wake_at(self, due_s)

    def handle_deadline(self, now_s: float) -> float | None:
        """Ack timeouts and delayed redeliveries that are due. Returns when the next ones are."""
        for cursor, delivery in self._timetable.due(now_s):
            settle.timed_out(self, cursor, delivery, now_s)
        if self.side is not None:
            self.side.handle_deadline(now_s)
        return self._timetable.next_s

    # -- place ------------------------------------------------------------------------------------------------

    def seek(self, positions: dict[Partition, int]) -> None:
        """Read on from these offsets. Events in flight are forgotten: their acks will be ignored."""
        self.generation += 1
        self._registry.letters.forget(self.name)
        self.places.seek(positions)
        for partition in positions:
            self.passed(partition)
        self.members.release_keys()
        self._recount_in_flight()
        self._registry.changed(self)
        self.ready()

    def move(self, positions: dict[Partition, int]) -> None:
        """Whoever reads for it has come to these offsets. What is in flight there is forgotten."""
        self.places.move(positions, owed=self.spec.is_owed)
        for partition in positions:
            self.passed(partition)
        self._recount_in_flight()
        self.touch()
        self.ready()

    def let_go_of(self, gone: list[Partition]) -> None:
        """These partitions are deleted: what was read of them is forgotten, and acks of it will be ignored."""
        if self.places.let_go_of(gone):
            self.members.release_keys()
            self._recount_in_flight()
            self.touch()
            self.ready()

    def checkpoint(self) -> Ticket | None:
        """Put the position into the state table now, in the commit of this loop turn. None: it is not durable."""
        return self._registry.checkpoint(self)

    def lag(self) -> Lag:
        """How far it is behind, as far as that is known now. Cheap; what is not known is counted from now on."""
        return lag_of(self.interest, self.cursors.values(), self._registry.counting, self._registry.clock_ms())

    def count(self, cursors: list[Cursor]) -> None:
        """Have it counted what stands in the log behind these cursors of its own."""
        self._registry.counting.ask(self.interest, cursors)

    def has_passed(self, places: dict[Partition, int]) -> bool:
        """Has it read everything that was below these places?"""
        return self.places.have_passed(places)

    def close(self, reason: str) -> None:
        """Called by the registry on deletion."""
        self.closed = True
        members, self.members.all = self.members.all, []
        self._registry.early.members -= sum(map(self.members.is_early, members))
        self.places.end()
        if self.untracked is not None:
            self.untracked.clear()
        self._recount_in_flight()
        self._timetable.clear()
        for member in members:
            member.consumer_closed(self, reason)
        if self.side is not None:
            self.side.closed(reason)
            self.side = None
        self.interest.let_go()                          # and what else refers to us: no collection has to free us
        self.untracked = None

    def _recount_in_flight(self) -> None:
        count, size = self.places.in_flight()
        untracked = self.untracked.bytes if self.untracked is not None else 0
        self.hold(count - self.in_flight, size + untracked - self.in_flight_bytes)

    def lost_to_retention(self, records: int) -> None:
        """So many went before they were read. For readahead.py."""
        self._registry.lost_to_retention(self, records)

    def passed(self, partition: Partition) -> None:
        """It wants nothing that was published there until now."""
        self._registry.early.passed(self, partition)

    def places_end(self, partition: Partition) -> None:
        """What waited there for the disk was refused: no filter and no binding counts from, or to, behind it."""
        if self.places.refused(partition):
            self._registry.changed(self)
        if self.side is not None:
            self.side.refused(partition)

    def forget_fresh(self) -> None:
        """Filters that reach as far back as the others by now are like them."""
        self.places.forget_fresh()

    def given_anew(self, place: str) -> None:
        """The event at this place ("stream:partition:offset") is handed out again, as if new."""
        self._registry.letters.forget(self.name, place)

    def touch(self) -> None:
        """It does not stand where it is stored to stand."""
        if self.spec.durable:
            self._registry.dirty[self] = None
