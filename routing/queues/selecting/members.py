"""Selecting: members of a queue that take only what their predicate wants. The others stay where they are.

    ready ── again · early · waiting · not yet read ──► looked through, a piece a turn ──► what it wants goes to it
                                              └── passed_by: not once more when the reader of the log comes there

To its consumer such a member has no credit: it is handed nothing but what is found here. What it has looked at and not
taken it does not look at again, but for what comes back. All members together look at so many events in one turn, and
for so long; the next turn goes on with the next member. Costs nothing while no member selects.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from routing.cursors.delivery import Delivery
from routing.event import Event
from routing.queues.predicates import Predicate
from routing.queues.selecting.arrivals import Arrivals
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor

STEP_LOOKED = 1_024         # events looked at in one turn, all members together; a member counts as one, too
STEP_S = 0.004              # and for so long: a selector may be long, and what it looks at, too
STEP_SCANNED = 512          # records of the log looked through in one piece; fewer where that takes too long
READ_LOOKS = 16             # looks that one costs which has to be read from the log by itself


class Selective(Protocol):
    """A member with a demand in place of a credit."""

    identity: Identity
    credit: int             # always 0
    demand: int             # deliveries it takes now

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None: ...
    def consumer_closed(self, consumer: Consumer, reason: str) -> None: ...


class _Seat:
    __slots__ = ("arrivals", "idle", "looked_to", "member", "predicate")

    def __init__(self, member: Selective, predicate: Predicate) -> None:
        self.member = member
        self.predicate = predicate
        self.looked_to: dict[Cursor, int] = {}          # below it nothing of the log is for it
        self.arrivals: dict[Cursor, Arrivals] = {}
        self.idle: list[Callable[[], None]] = []

    def arrivals_of(self, cursor: Cursor) -> Arrivals:
        found = self.arrivals.get(cursor)
        if found is None:
            found = self.arrivals[cursor] = Arrivals(cursor)
        return found


class Selecting:
    """Of one queue."""

    __slots__ = ("_at", "_clock_s", "_consumer", "_left", "_piece", "_seats", "_until_s")

    def __init__(self, consumer: Consumer, clock_s: Callable[[], float]) -> None:
        self._consumer = consumer
        self._clock_s = clock_s
        self._seats: list[_Seat] = []
        self._at = 0                                    # whose turn it is
        self._left = 0                                  # looks of this turn
        self._piece = STEP_SCANNED
        self._until_s = 0.0

    def add(self, member: Selective, predicate: Predicate) -> None:
        self._seats.append(_Seat(member, predicate))

    @property
    def is_empty(self) -> bool:
        return not self._seats

    def remove(self, member: object) -> None:
        for seat in self._seats:
            if seat.member is member:
                for arrivals in seat.arrivals.values():
                    arrivals.stop()
        self._seats = [seat for seat in self._seats if seat.member is not member]

    def when_idle(self, member: object, call: Callable[[], None]) -> None:
        """Call once all that is ready has been looked through."""
        for seat in self._seats:
            if seat.member is member:
                seat.idle.append(call)
        self._consumer.ready()

    def hand_out(self) -> None:
        """Called when the queue's events are handed out, before other members get any."""
        seats = self._seats
        self._left = STEP_LOOKED
        self._until_s = self._clock_s() + STEP_S
        for _ in range(len(seats)):
            if self._over():
                self._consumer.ready()
                return
            seat = seats[self._at % len(seats)]
            self._at = (self._at + 1) % len(seats)
            self._left -= 1
            if seat.member.demand <= 0 and not seat.idle:
                continue
            done = all(self._look(seat, cursor) for cursor in list(self._consumer.cursors.values()))
            if not done:
                self._consumer.ready()
            elif seat.idle:
                idle, seat.idle = seat.idle, []
                for call in idle:
                    call()

    def _over(self) -> bool:
        return self._left <= 0 or self._clock_s() >= self._until_s

    def _full(self, seat: _Seat, count: int = 0) -> bool:
        """It takes no more than count."""
        return seat.member.demand <= count or self._consumer.room() <= count

    def _look(self, seat: _Seat, cursor: Cursor) -> bool:
        """True: nothing ready is left that it has not looked at, or it takes no more."""
        if not self._returned(seat, cursor) or not self._waiting(seat, cursor):
            return False
        return self._full(seat) or self._in_log(seat, cursor)

    def _returned(self, seat: _Seat, cursor: Cursor) -> bool:
        """What came back, and what is ready before its turn."""
        arrivals = seat.arrivals_of(cursor)
        while not self._full(seat):
            if self._over():
                return False
            offset = arrivals.next()
            if offset is None:
                return True
            self._left -= 1
            again = cursor.again.get(offset)
            if again is None and offset not in cursor.early:
                continue
            event: Event | None
            if again is not None and not again.is_bare:
                event = again.event
            else:
                self._left -= READ_LOOKS
                event = cursor.event(offset)
            if event is None or not seat.predicate.matches(event):
                continue
            cursor.early.pop(offset, None)
            if again is not None:
                del cursor.again[offset]
            self._give(seat, cursor, event, again.attempts if again is not None else 1)
        return True

    def _waiting(self, seat: _Seat, cursor: Cursor) -> bool:
        """What has been read and waits for members."""
        looked_to = seat.looked_to.get(cursor, 0)
        fresh: list[Event] = []
        for event in reversed(cursor.waiting):
            if event.offset < looked_to:
                break
            fresh.append(event)
        taken: list[Event] = []
        done = True
        for event in reversed(fresh):
            if self._full(seat, len(taken)):
                break
            if self._over():
                done = False
                break
            self._left -= 1
            if seat.predicate.matches(event):
                taken.append(event)
            looked_to = event.offset + 1
        seat.looked_to[cursor] = looked_to
        if taken:
            offsets = {event.offset for event in taken}
            cursor.drop_waiting(lambda event: event.offset in offsets)
            for event in taken:
                cursor.passed_by.add(event.offset)      # what waits may be left to the log, and be read again
                self._give(seat, cursor, event, 1)
        return done

    def _in_log(self, seat: _Seat, cursor: Cursor) -> bool:
        """What stands in the log only."""
        if not cursor.behind:
            return True
        interest = self._consumer.interest
        start = max(seat.looked_to.get(cursor, 0), cursor.position)
        if start >= cursor.partition.end_offset:
            return True
        if self._over():
            return False
        count = min(self._piece, self._left)
        found = cursor.scan(start, interest.wants, max_events=count, max_scanned=count, patterns=interest.patterns)
        self._left -= min(found.next_offset - start, count)
        for number, event in enumerate(found.events):
            if self._full(seat):
                seat.looked_to[cursor] = event.offset
                return True
            if number and self._clock_s() >= self._until_s:
                seat.looked_to[cursor] = event.offset
                self._piece = number                    # what was read behind it was read in vain
                return False
            if (event.offset in cursor.passed_by or event.offset in cursor.ahead
                    or not interest.wants_event(event) or not seat.predicate.matches(event)):
                continue
            cursor.passed_by.add(event.offset)
            if cursor.backlog.counted_to > event.offset:
                cursor.backlog.events -= 1
            self._give(seat, cursor, event, 1)
        self._piece = min(2 * self._piece, STEP_SCANNED)
        seat.looked_to[cursor] = found.next_offset
        return found.next_offset >= cursor.partition.end_offset

    def _give(self, seat: _Seat, cursor: Cursor, event: Event, attempts: int) -> None:
        member = seat.member
        self._consumer.send(cursor, member, [Delivery(event, attempts, member)], len(event.payload))
        member.credit = 0
