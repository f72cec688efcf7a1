"""Borrowing: what a part of a queue was lent by others. It waits in the queue like what came back to it, in front.

Each part asks the others for what its members would take and do not get here. What was lent is answered when it is
settled here, whatever way: acked, a dead letter, expired. When nobody here takes it, it goes back.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from mesh.queues.lending import Lender
from mesh.queues.messages import LENT_MAX, Back, Done, Lend, Message, Want
from mesh.replication.bodies import BadBody, BodyDecoder
from routing.cursors.cursor import Cursor, Delivery
from routing.event import Event
from routing.queues.elsewhere import Borrowed

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.queues.queue import Queue

WANTED_MAX: Final = 200             # events that wait here for members, for each node that is asked
FETCHED_MAX: Final = 200            # beside those that were asked for: a basic.get each
BYTES_MAX: Final = 16 * 1024 * 1024 # of payloads of one queue: no honest lender gives more (4 MiB, and a large one)


class _Source:
    """One of the others."""

    __slots__ = ("fetches", "numbers", "told_readers", "told_total", "total")

    def __init__(self) -> None:
        self.total = 0                              # lent by it so far, fetched ones included
        self.told_total = 0                         # what it was asked for
        self.told_readers = 0
        self.fetches = 0                            # single ones that it was asked for beside those
        self.numbers: dict[int, int] = {}           # offset here → its number


class Borrowing:
    """Of one part."""

    def __init__(self, queue: Queue, say: Callable[[str, Message], None], clock_ms: Callable[[], int],
                 may_lend: Callable[[str, Queue, str], bool]) -> None:
        """may_lend: may that node give us an event of this topic?"""
        self._may_lend = may_lend
        self._queue = queue
        self._say = say
        self._sources: dict[str, _Source] = {}
        self._place = Borrowed(clock_ms)
        self._cursor: Cursor | None = None
        self._bytes = 0                             # of payloads that are here

    @property
    def count(self) -> int:
        return len(self._place.events)

    def add(self, node: str) -> None:
        """A node that has a part is in sight."""
        self._sources.setdefault(node, _Source())

    def fetched_from(self, node: str) -> None:
        """It is asked for one event."""
        source = self._sources.get(node)
        if source is not None:
            source.fetches += 1

    # -- what a lender says -----------------------------------------------------------------------------------

    def lent(self, node: str, lend: Lend) -> None:
        """Raises BadBody."""
        source = self._sources.get(node)
        if source is None:
            return
        if len(source.numbers) + len(lend.attempts) > LENT_MAX + FETCHED_MAX or self._bytes > BYTES_MAX \
                or lend.first <= source.total or (
                    lend.first + len(lend.attempts) - 1 > source.told_total + source.fetches):
            raise BadBody("more than was asked for")
        events = BodyDecoder(None, 0, None).decode(lend.body, 0, len(lend.attempts))
        if len(events) != len(lend.attempts):
            raise BadBody("not as many events as attempts")
        for topic in {event.topic for event in events}:
            if not self._may_lend(node, self._queue, topic):
                raise BadBody(f"an event that the link does not let in: {topic[:200]!r}")
        source.total = lend.first + len(events) - 1
        cursor = self._cursor
        if cursor is None:
            place = cast("Partition", self._place)
            cursor = self._cursor = self._queue.consumer.cursors[place] = Cursor(place, 0)
        for number, (event, attempts) in enumerate(zip(events, lend.attempts), lend.first):
            event.origin, event.origin_offset = None, -1
            self._place.take(event)
            self._bytes += len(event.payload)
            cursor.position = self._place.end_offset
            cursor.again[event.offset] = Delivery(event, max(attempts, 1))
            source.numbers[event.offset] = number
        self._queue.consumer.ready()

    def lost(self, node: str) -> Callable[[], None] | None:
        """What it had lent is not here any more: it gives it out again. Returns what takes that out of the queue."""
        source = self._sources.pop(node, None)
        if source is None or not source.numbers:
            return None

        def drop() -> None:
            for offset in source.numbers:
                self._drop(offset)

        return drop

    def _forget(self, offset: int) -> Event | None:
        event = self._place.events.pop(offset, None)
        if event is not None:
            self._bytes -= len(event.payload)
        return event

    def _drop(self, offset: int) -> Delivery | None:
        """Take it out of the queue, wherever it is."""
        event = self._forget(offset)
        cursor, consumer = self._cursor, self._queue.consumer
        if event is None or cursor is None:
            return None
        out: Any = cursor.in_flight.pop(offset, None)
        if out is not None:
            consumer.hold(-1, -len(event.payload))
            return cast(Delivery, out)
        return cursor.again.take(offset) or cursor.delayed.take(offset)

    # -- after every pump -------------------------------------------------------------------------------------

    def pumped(self) -> None:
        queue, cursor = self._queue, self._cursor
        readers = sum(1 for member in queue.consumer.members.all if not isinstance(member, Lender))
        if cursor is not None and self._place.events:
            here = len(cursor.in_flight) + len(cursor.again) + len(cursor.delayed)
            for node, source in self._sources.items() if here < len(self._place.events) else ():
                if source.numbers:
                    self._answer(node, source, cursor)
            if not readers and not queue.consumer.attachment.giving and (cursor.again or cursor.delayed):
                self.give_back([*cursor.again.values(), *cursor.delayed.values()])
        if self._sources:
            self._ask(readers)

    def _answer(self, node: str, source: _Source, cursor: Cursor) -> None:
        done = [(offset, number) for offset, number in source.numbers.items()
                if offset not in cursor.in_flight and offset not in cursor.again and offset not in cursor.delayed]
        for offset, _ in done:
            self._forget(offset)
            del source.numbers[offset]
        numbers = [number for _, number in done]
        for start in range(0, len(numbers), LENT_MAX):
            self._say(node, Done(self._queue.name, numbers[start:start + LENT_MAX]))

    def give_back(self, deliveries: list[Delivery]) -> None:
        """Nobody here takes them. attempts: of the next delivery, of what waits."""
        offsets = {delivery.event.offset: delivery.attempts for delivery in deliveries}
        for node, source in self._sources.items():
            mine = [(offset, source.numbers[offset]) for offset in offsets if offset in source.numbers]
            if mine:
                for offset, _ in mine:
                    self._drop(offset)
                    del source.numbers[offset]
                rows = [(number, offsets[offset]) for offset, number in mine]
                for start in range(0, len(rows), LENT_MAX):
                    self._say(node, Back(self._queue.name, rows[start:start + LENT_MAX]))

    def _ask(self, readers: int) -> None:
        """What members here would take now, and is not here."""
        consumer = self._queue.consumer
        wanted = 0
        if readers and not consumer.paused and not self._has_own():
            credit = sum(member.credit for member in consumer.members.all
                         if member.credit > 0 and not isinstance(member, Lender))
            wanted = min(credit, consumer.room(), WANTED_MAX)
        for node, source in self._sources.items():
            total = source.total + wanted
            if total > source.told_total or bool(readers) != bool(source.told_readers):
                source.told_total, source.told_readers = max(total, source.told_total), readers
                self._say(node, Want(self._queue.name, source.told_total, readers))

    def _has_own(self) -> bool:
        """Is there something ready of this node's own?"""
        return any(cursor.waiting or cursor.behind or cursor.again or cursor.early
                   for cursor in self._queue.consumer.cursors.values() if cursor is not self._cursor)
