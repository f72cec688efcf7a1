"""Taking one event at a time, and hearing that there is none: get() and when_idle() of a queue."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from routing.consumers.delivery.readahead import READ_SCANNED, read
from routing.cursors.cursor import Cursor, Delivery
from routing.errors import StorageError
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer, Member
    from routing.queues.priorities import Priorities
    from routing.rights.policy import Identity

READ_AHEAD = 64             # taken from the log at a time: as much as may wait in memory
Answer: TypeAlias = Callable[[Delivery | None], None]


class _Hand:
    """The member that a delivery goes through on its way to who asked for it."""

    __slots__ = ("credit", "identity", "taken")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.credit = 1
        self.taken: list[Delivery] = []

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self.taken += deliveries

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        pass


class _Get:
    """current: everything that was published before it was asked is in the queue."""

    __slots__ = ("answer", "current", "member")

    def __init__(self, member: Member, answer: Answer) -> None:
        self.member = member
        self.answer = answer
        self.current = False


class Taking:
    """Of one queue."""

    __slots__ = ("_consumer", "_expire", "_gets", "_idle", "_priorities")

    def __init__(self, consumer: Consumer, priorities: Priorities | None, expire: Callable[[], None]) -> None:
        """expire: look at what is at the head now."""
        self._consumer = consumer
        self._expire = expire
        self._priorities = priorities
        self._gets: deque[_Get] = deque()
        self._idle: list[Callable[[], None]] = []

    def get(self, member: Member, answer: Answer) -> None:
        self._gets.append(_Get(member, answer))
        self._serve_now()
        if not self._gets:
            return
        waiting = self._gets[-1]
        ticket = Ticket(())
        for partition in self._consumer.cursors:
            partition.join(ticket)
        ticket.part_done()

        def current(done: Ticket) -> None:
            waiting.current = True
            self._serve_now()

        ticket.on_done(current)

    def _serve_now(self) -> None:
        """Without the pump. Where the log has to be asked first, or cannot be read for the moment, with it: pump.py."""
        try:
            self.serve()
        except StorageError:
            self._consumer.ready()

    def serve(self) -> None:
        """Answer those who can be answered, in their order. Raises StorageError, Cold too."""
        consumer = self._consumer
        while self._gets:
            if not consumer.may_give and not consumer.closed and self._is_some():
                consumer.begin_giving()                 # it is known on disk that something goes out, before it does
                if not consumer.may_give:
                    return
            first = self._gets[0]
            delivery, more = self._take(first.member)
            if delivery is None and not (first.current and not more):
                if more:
                    consumer.ready()
                return
            self._gets.popleft()
            if delivery is not None:
                self._look_behind()
            first.answer(delivery)
        consumer.end_giving()

    def _look_behind(self) -> None:
        """What follows the one that is handed out may have expired; if it cannot be read now, the pump looks."""
        try:
            self._expire()
        except StorageError:
            self._consumer.ready()

    def _is_some(self) -> bool:
        """Something may be ready."""
        return any(cursor.early or cursor.waiting or cursor.again or cursor.behind
                   for cursor in self._consumer.cursors.values())

    def _take(self, member: Member) -> tuple[Delivery | None, bool]:
        """The first ready event; and, when there is none, whether there may be more in the log."""
        consumer = self._consumer
        if consumer.paused or consumer.held or consumer.closed or consumer.room() <= 0:
            return None, False
        more = False
        while self._priorities is not None and (early := self._priorities.next()) is not None:
            taken = self._hand(*early, member)
            if taken is not None:
                return taken, False
        for cursor in consumer.cursors.values():
            while True:
                first = _first(cursor)
                if first is None and cursor.behind:
                    read(consumer, cursor, READ_AHEAD, READ_SCANNED)
                    first = _first(cursor)
                    more = more or (first is None and cursor.behind)
                if first is None:
                    break
                taken = self._hand(cursor, first, member)
                if taken is not None:
                    return taken, False
        return None, more

    def _hand(self, cursor: Cursor, delivery: Delivery, member: Member) -> Delivery | None:
        """None: this member may not read it."""
        hand = _Hand(member.identity)
        self._consumer.send(cursor, hand, [delivery], len(delivery.event.payload))
        if not hand.taken:
            return None
        hand.taken[0].member = member
        return hand.taken[0]

    def when_idle(self, call: Callable[[], None]) -> None:
        self._idle.append(call)
        self._consumer.ready()

    def told(self) -> None:
        """Called after every pump."""
        if self._idle and not self._is_some():
            idle, self._idle = self._idle, []
            for call in idle:
                call()

    def closed(self) -> None:
        gets, self._gets = self._gets, deque()
        for waiting in gets:
            waiting.answer(None)
        idle, self._idle = self._idle, []
        for call in idle:
            call()


def _first(cursor: Cursor) -> Delivery | None:
    """Take out what is to be delivered first."""
    returned: Any = cursor.again.first()
    if returned is not None:
        event = cursor.event(returned.event.offset) if returned.is_bare else returned.event
        del cursor.again[returned.event.offset]
        return Delivery(event, returned.attempts) if event is not None else _first(cursor)
    return Delivery(cursor.waiting.popleft()) if cursor.waiting else None
