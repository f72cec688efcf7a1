"""What a queue lets go by itself: what is too old, and what is too much. From the head on, a bounded step at a time.

Expiry is looked at where the next event to be delivered stands, as in RabbitMQ: an event with a short life of its own
behind one with a longer one goes when its turn comes, and is never delivered late.

A limit of length is one of what waits: what members would take now does not count, however much is published at once.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from routing.consumers.delivery.readahead import READ_SCANNED, read
from routing.cursors.cursor import Cursor, Delivery
from routing.event import Event
from routing.queues.depth import depth_of
from routing.queues.leaving.sizes import Sizes
from routing.queues.options import Cause, QueueOptions

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.log.partition import Partition
    from routing.queues.priorities import Priorities

STEP_EVENTS = 200           # let go in one turn,
STEP_S = 0.004              # and no longer than this: a dead letter of some protocols costs 200 µs
READ_AHEAD = 64             # taken from the log at a time: as much as may wait in memory


class Clocks(msgspec.Struct):
    """Monotonic seconds; wall time in ms; and who wakes a consumer at such a second."""

    clock_s: Callable[[], float]
    clock_ms: Callable[[], int]
    wake_at: Callable[[Consumer, float], None]


class LettingGo:
    """Of one queue."""

    __slots__ = (
        "_admitted", "_admitted_bytes", "_clocks", "_consumer", "_earlier", "_earlier_bytes", "_earlier_until",
        "_options", "_own_ttl", "_priorities", "_sizes", "expired", "pushed_out")

    def __init__(self, consumer: Consumer, options: QueueOptions, clocks: Clocks,
                 priorities: Priorities | None) -> None:
        self._priorities = priorities
        self._consumer = consumer
        self._options = options
        self._clocks = clocks
        self._own_ttl = False                           # some event may have a time to live of its own
        self._admitted = self._admitted_bytes = 0       # let in by the door, and not offered yet; and the same
        self._earlier = self._earlier_bytes = 0         # of before these places: what is not here by then was refused
        self._earlier_until: dict[Partition, int] = {}
        self._sizes = Sizes(consumer) if options.max_length_bytes is not None else None
        self.expired = 0
        self.pushed_out = 0

    def offered(self, events: list[Event]) -> None:
        self._own_ttl = self._own_ttl or any(event.properties is not None for event in events)
        if self._admitted or self._earlier:
            self._came(len(events), sum([len(event.payload) for event in events]))
        if self._sizes is not None:
            self._sizes.offered(events)
        self._consumer.ready()

    def _came(self, count: int, size: int) -> None:
        """So many of those that were let in are here, or do not come."""
        earlier, earlier_bytes = min(count, self._earlier), min(size, self._earlier_bytes)
        self._earlier -= earlier
        self._earlier_bytes -= earlier_bytes
        self._admitted = max(self._admitted - count + earlier, 0)
        self._admitted_bytes = max(self._admitted_bytes - size + earlier_bytes, 0)

    def _look_for_admitted(self) -> None:
        """Some are let in and then refused, by another queue or the disk: they do not take room for ever."""
        partitions = list(self._consumer.cursors)
        if all(partition.next_offset <= partition.end_offset for partition in partitions):
            self._admitted = self._admitted_bytes = self._earlier = self._earlier_bytes = 0
        elif all(partition.end_offset >= offset for partition, offset in self._earlier_until.items()):
            self._earlier, self._earlier_bytes = self._admitted, self._admitted_bytes
            self._admitted = self._admitted_bytes = 0
            self._earlier_until = {partition: partition.next_offset for partition in partitions}

    def settled(self, size: int) -> None:
        if self._sizes is not None:
            self._sizes.bytes -= size

    def purged(self) -> None:
        if self._sizes is not None:
            self._sizes.bytes = self._consumer.in_flight_bytes

    def restored(self) -> None:
        """What waits in the log is not known."""
        self._own_ttl = True
        if self._sizes is not None:
            self._sizes.restored()
        options = self._options
        bounded = options.message_ttl_ms is not None or options.max_length is not None or (
            options.max_length_bytes is not None)       # else only a time to live of its own, of few queues:
        if any(cursor.again or (bounded and cursor.behind) for cursor in self._consumer.cursors.values()):
            self._consumer.ready()                      # to look for the head of each would be n logs for n queues

    @property
    def may_refuse(self) -> bool:
        limits = self._options.max_length, self._options.max_length_bytes
        return self._options.overflow == "reject-publish" and limits != (None, None)

    def admit(self, size: int) -> bool:
        """May one more event of so many payload bytes come in? If so, it is on its way."""
        length, length_bytes = self._options.max_length, self._options.max_length_bytes
        there = depth_of(self._consumer).ready + self._admitted + self._earlier
        waiting = there - self._consumer.appetite()
        full = length is not None and waiting >= length
        if length_bytes is not None and waiting >= 0 and self._sizes is not None and self._sizes.known:
            there_bytes = self._sizes.ready_bytes + self._admitted_bytes + self._earlier_bytes
            full = full or there_bytes * waiting // max(there, 1) + size > length_bytes
        if full:
            self._consumer.ready()                      # the pump looks whether all that were admitted have come
            return False
        self._admitted += 1
        self._admitted_bytes += size
        return True

    def withdraw(self, size: int) -> None:
        """One that was admitted does not come now."""
        self._came(1, size)

    def before_pump(self) -> None:
        if self._admitted or self._earlier:
            self._look_for_admitted()
        self.expire()

    def after_pump(self) -> None:
        """What members take has gone out."""
        self._push_out()
        if self._options.message_ttl_ms != 0 or not self._consumer.appetite():
            self._expire()

    def expire(self) -> None:
        """Others may be at the head now."""
        if self._options.message_ttl_ms != 0:           # else it may be delivered yet
            self._expire()

    def handle_deadline(self) -> None:
        self._consumer.ready()                          # the pump looks at it

    def expires_at_ms(self, event: Event) -> int | None:
        own = event.properties.expires_at_ms if event.properties is not None else None
        if self._options.message_ttl_ms is None:
            return own
        at_ms = event.timestamp_ms + self._options.message_ttl_ms
        return at_ms if own is None else min(own, at_ms)

    def _expire(self) -> None:
        if self._options.message_ttl_ms is None and not self._own_ttl:
            return
        now_ms = self._clocks.clock_ms()
        left = STEP_EVENTS
        until_s = self._clocks.clock_s() + STEP_S
        next_ms: int | None = None
        for cursor in list(self._consumer.cursors.values()):
            while left > 0:
                head = self._head(cursor)
                if head is None:
                    break
                at_ms = self.expires_at_ms(head.event)
                if at_ms is None:
                    break
                if at_ms > now_ms:
                    next_ms = at_ms if next_ms is None else min(next_ms, at_ms)
                    break
                left -= 1
                self.expired += 1
                self._let_go(cursor, head, Cause.EXPIRED)
                if self._clocks.clock_s() >= until_s:
                    left = 0
        if left <= 0:
            self._consumer.ready()
        elif next_ms is not None:
            self._clocks.wake_at(self._consumer, self._clocks.clock_s() + max(next_ms - now_ms, 1) / 1000)

    def _push_out(self) -> None:
        if self._sizes is not None and not self._sizes.known:
            self._sizes.step()
            self._consumer.ready()
        if self._options.overflow != "drop-head":
            return
        limit, appetite = self._options.max_length, self._consumer.appetite()
        if appetite and depth_of(self._consumer).ready <= appetite:
            return                                      # they take it in the next turns
        too_many = depth_of(self._consumer).ready - appetite - limit if limit is not None else 0
        left = STEP_EVENTS
        until_s = self._clocks.clock_s() + STEP_S
        while left > 0 and (too_many > 0 or self._is_too_large()):
            heads = [(head.event.timestamp_ms, number, cursor, head)
                     for number, cursor in enumerate(self._consumer.cursors.values())
                     if (head := self._head(cursor)) is not None]
            if heads:
                _, _, cursor, head = min(heads, key=lambda found: found[:2])
                self._let_go(cursor, head, Cause.MAXLEN)
            else:
                early = self._priorities.last() if self._priorities is not None else None
                if early is None:
                    return
                self._consumer.to_dead_letters(*early, Cause.MAXLEN)
            self.pushed_out += 1
            too_many -= 1
            left = left - 1 if self._clocks.clock_s() < until_s else 0
        if left <= 0:
            self._consumer.ready()

    def _is_too_large(self) -> bool:
        limit = self._options.max_length_bytes
        return limit is not None and self._sizes is not None and self._sizes.known and self._sizes.ready_bytes > limit

    def _head(self, cursor: Cursor) -> Delivery | None:
        """The next one to be delivered, which stays where it is."""
        returned = cursor.again.first()
        if returned is not None:
            if not returned.is_bare:
                return returned
            event = cursor.event(returned.event.offset)
            return Delivery(event, returned.attempts) if event is not None else returned
        if not cursor.waiting and cursor.behind:
            read(self._consumer, cursor, READ_AHEAD, READ_SCANNED)
            if not cursor.waiting and cursor.behind:
                self._consumer.ready()                  # it goes on looking in the next turn
        return Delivery(cursor.waiting[0]) if cursor.waiting else None

    def _let_go(self, cursor: Cursor, head: Delivery, cause: Cause) -> None:
        if cursor.again.take(head.event.offset) is None:
            cursor.waiting.popleft()
        self._consumer.to_dead_letters(cursor, Delivery(head.event, head.attempts), cause)
