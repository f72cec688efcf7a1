"""Selecting: members of a queue that take only what their predicate wants. The others stay where they are.

    ready ── again · early · waiting · not yet read ──► looked through, a piece a turn ──► what it wants goes to it
                                              └── passed_by: not once more when the reader of the log comes there

To its consumer such a member has no credit: it is handed nothing but what is found here. What it has looked at and not
taken it does not look at again, but for what comes back. Costs nothing while no member selects.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from routing.cursors.delivery import Delivery
from routing.event import Event
from routing.queues.predicates import Predicate
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor

STEP_SCANNED = 512          # records of the log looked through in one turn
STEP_RETURNED = 256         # events that came back, looked at in one turn


class Selective(Protocol):
    """A member with a demand in place of a credit."""

    identity: Identity
    credit: int             # always 0
    demand: int             # deliveries it takes now

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None: ...
    def consumer_closed(self, consumer: Consumer, reason: str) -> None: ...


class _Seat:
    __slots__ = ("idle", "looked_to", "member", "predicate", "seen")

    def __init__(self, member: Selective, predicate: Predicate) -> None:
        self.member = member
        self.predicate = predicate
        self.looked_to: dict[Cursor, int] = {}          # below it nothing of the log is for it
        self.seen: dict[Cursor, set[tuple[int, int]]] = {}      # offset and attempt of what is not for it
        self.idle: list[Callable[[], None]] = []


class Selecting:
    """Of one queue."""

    __slots__ = ("_consumer", "_seats")

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._seats: list[_Seat] = []

    def add(self, member: Selective, predicate: Predicate) -> None:
        self._seats.append(_Seat(member, predicate))

    def remove(self, member: object) -> None:
        self._seats = [seat for seat in self._seats if seat.member is not member]

    def when_idle(self, member: object, call: Callable[[], None]) -> None:
        """Call once all that is ready has been looked through."""
        for seat in self._seats:
            if seat.member is member:
                seat.idle.append(call)
        self._consumer.ready()

    def hand_out(self) -> None:
        """Called when the queue's events are handed out, before other members get any."""
        for seat in self._seats:
            if seat.member.demand <= 0 and not seat.idle:
                continue
            done = all(self._look(seat, cursor) for cursor in list(self._consumer.cursors.values()))
            if not done:
                self._consumer.ready()
            elif seat.idle:
                idle, seat.idle = seat.idle, []
                for call in idle:
                    call()

    def _look(self, seat: _Seat, cursor: Cursor) -> bool:
        """True: nothing ready is left that it has not looked at, or it takes no more."""
        if not self._returned(seat, cursor):
            return False
        self._waiting(seat, cursor)
        if seat.member.demand <= 0 or self._consumer.room() <= 0:
            return True
        return self._in_log(seat, cursor)

    def _returned(self, seat: _Seat, cursor: Cursor) -> bool:
        """What came back, and what is ready before its turn."""
        seen = seat.seen.setdefault(cursor, set())
        if len(seen) > 2 * (len(cursor.again) + len(cursor.early)) + STEP_RETURNED:
            seen.clear()
        looked = 0
        for offset in sorted((*cursor.again, *cursor.early)):
            again = cursor.again.get(offset)
            mark = (offset, again.attempts if again is not None else 0)
            if mark in seen:
                continue
            if looked >= STEP_RETURNED:
                return False
            if seat.member.demand <= 0 or self._consumer.room() <= 0:
                return True
            looked += 1
            event = again.event if again is not None and not again.is_bare else cursor.event(offset)
            if event is None or not seat.predicate.matches(event):
                seen.add(mark)
                continue
            cursor.early.pop(offset, None)
            if again is not None:
                del cursor.again[offset]
            self._give(seat, cursor, event, again.attempts if again is not None else 1)
        return True

    def _waiting(self, seat: _Seat, cursor: Cursor) -> None:
        """What has been read and waits for members."""
        taken: set[int] = set()
        looked_to = seat.looked_to.get(cursor, 0)
        for event in list(cursor.waiting):
            if event.offset < looked_to:
                continue
            if seat.member.demand <= len(taken) or self._consumer.room() <= len(taken):
                break
            if seat.predicate.matches(event):
                taken.add(event.offset)
            looked_to = event.offset + 1
        seat.looked_to[cursor] = looked_to
        if not taken:
            return
        events = [event for event in cursor.waiting if event.offset in taken]
        cursor.drop_waiting(lambda event: event.offset in taken)
        for event in events:
            cursor.passed_by.add(event.offset)          # what waits may be left to the log, and be read again
            self._give(seat, cursor, event, 1)

    def _in_log(self, seat: _Seat, cursor: Cursor) -> bool:
        """What stands in the log only."""
        if not cursor.behind:
            return True
        interest = self._consumer.interest
        start = max(seat.looked_to.get(cursor, 0), cursor.position)
        if start >= cursor.partition.end_offset:
            return True
        found = cursor.scan(start, interest.wants, max_events=STEP_SCANNED, max_scanned=STEP_SCANNED,
                            patterns=interest.patterns)
        for event in found.events:
            if seat.member.demand <= 0 or self._consumer.room() <= 0:
                seat.looked_to[cursor] = event.offset
                return True
            if (event.offset in cursor.passed_by or event.offset in cursor.ahead
                    or not interest.wants_event(event) or not seat.predicate.matches(event)):
                continue
            cursor.passed_by.add(event.offset)
            if cursor.backlog.counted_to > event.offset:
                cursor.backlog.events -= 1
            self._give(seat, cursor, event, 1)
        seat.looked_to[cursor] = found.next_offset
        return found.next_offset >= cursor.partition.end_offset

    def _give(self, seat: _Seat, cursor: Cursor, event: Event, attempts: int) -> None:
        member = seat.member
        self._consumer.send(cursor, member, [Delivery(event, attempts, member)], len(event.payload))
        member.credit = 0
