"""Duplicate detection by dedupe id: a window per publisher.

The id is there for that alone (an Idempotency-Key over HTTP): a message id may be the same in many messages, and is
left alone. A publisher that sends the same dedupe id to the same topic again within its window gets the place of the
first one as its answer. A publisher is a protocol, a user and a client id, so nobody can use up the ids of somebody
else. After a restart the ids come from the tail of the log (see recovery.py), which names publishers by their
Event.publisher only; they count for whoever may publish to the same topic under that name.
"""
from __future__ import annotations

from typing import Any

from routing.event import Event
from routing.publishing.remembered import DedupeKey, Remembered, key_bytes
from routing.ticket import Ticket

WINDOWS_LEAST = 16          # windows that all have room, however large
PUBLISHERS_MAX = 10_000     # windows kept; the publisher that was quiet longest loses its window first


class First:
    """The first event of a dedupe id: where it is, and the ticket until that is known. Holds no payload."""

    __slots__ = ("offset", "partition", "ticket")

    def __init__(self, offset: int = -1, partition: Any = None, ticket: Ticket | None = None) -> None:
        self.offset = offset
        self.partition = partition      # routing.log.partition.Partition
        self.ticket = ticket


class Window:
    """The last dedupe ids of one publisher and the event that each of them became."""

    __slots__ = ("_bytes_max", "_seen", "_size", "bytes")

    def __init__(self, size: int, bytes_max: int) -> None:
        self._size = size
        self._bytes_max = bytes_max
        self._seen: dict[DedupeKey, First] = {}
        self.bytes = 0

    def remember(self, dedupe_key: DedupeKey, first: First) -> None:
        while self._seen and (len(self._seen) >= self._size or self.bytes > self._bytes_max):
            self.forget(next(iter(self._seen)))
        if dedupe_key not in self._seen:
            self.bytes += key_bytes(dedupe_key)
        self._seen[dedupe_key] = first

    def forget(self, dedupe_key: DedupeKey) -> None:
        if self._seen.pop(dedupe_key, None) is not None:
            self.bytes -= key_bytes(dedupe_key)

    def find(self, dedupe_key: DedupeKey) -> First | None:
        return self._seen.get(dedupe_key)

    def is_duplicate(self, index: int, event: Event, dedupe_key: DedupeKey, ticket: Ticket) -> bool:
        """True when the id was seen before: event then takes the place of the first one, or its refusal.

        index: the event's place in ticket, the publish call that is being filled.
        """
        first = self._seen.get(dedupe_key)
        if first is None:
            first = First(ticket=ticket)
            self.remember(dedupe_key, first)
            ticket.on_done(lambda done: self._settle(index, event, dedupe_key, first))
            return False
        if first.ticket is None or first.ticket is ticket:
            ticket.on_done(lambda done: self._copy(index, event, first, done))
        else:
            ticket.waiting += 1

            def answered(done: Ticket) -> None:
                self._copy(index, event, first, ticket)
                ticket.part_done()

            first.ticket.on_done(answered)
        return True

    def _settle(self, index: int, event: Event, dedupe_key: DedupeKey, first: First) -> None:
        assert first.ticket is not None
        if index in first.ticket.refusals:
            self.forget(dedupe_key)                   # it is not in the log: the next try must get in
            return
        first.offset, first.partition, first.ticket = event.offset, event.partition, None

    @staticmethod
    def _copy(index: int, event: Event, first: First, ticket: Ticket) -> None:
        if first.ticket is not None:                    # the first one was refused
            refusal = next(iter(first.ticket.refusals.values()))
            ticket.refusals.setdefault(index, refusal)
        event.offset, event.partition = first.offset, first.partition


class Windows:
    """The windows of all publishers, bounded: least recently used goes first."""

    def __init__(self, size: int, bytes_max: int) -> None:
        """bytes_max: of all windows together; one has a sixteenth of it at most."""
        self._size = size
        self._bytes_max = bytes_max
        self._bytes = 0                             # of all windows but the one in use
        self._current: Window | None = None
        self._windows: dict[str, Window] = {}
        self.recovered = Remembered(size, bytes_max)        # from the log; only grows at start

    def is_duplicate(self, publisher: str, index: int, event: Event, dedupe_id: bytes | str | int,
                     ticket: Ticket) -> bool:
        """See Window.is_duplicate. publisher: a name that no other publisher has."""
        dedupe_key = (event.topic, dedupe_id)
        place = self.recovered.find(event.publisher, dedupe_key)
        if place is None:
            return self.of(publisher).is_duplicate(index, event, dedupe_key, ticket)
        def copy(done: Ticket) -> None:
            event.partition, event.offset = place

        ticket.on_done(copy)
        return True

    def recover(self, event: Event, dedupe_id: bytes | str | int) -> None:
        """A stored event with a dedupe id, in the order of the log."""
        self.recovered.add(event.publisher, (event.topic, dedupe_id), event.partition, event.offset)

    def forget(self, publisher: str, event: Event, dedupe_id: bytes | str | int) -> None:
        """The next event with this id is a new one."""
        dedupe_key = (event.topic, dedupe_id)
        self.recovered.forget(event.publisher, dedupe_key)
        self.of(publisher).forget(dedupe_key)

    def of(self, publisher: str) -> Window:
        """publisher: a name that no other publisher has."""
        window = self._windows.pop(publisher, None)
        if window is None:
            window = Window(self._size, self._bytes_max // WINDOWS_LEAST)
        if window is not self._current:
            if self._current is not None:
                self._bytes += self._current.bytes
            self._bytes -= window.bytes
            self._current = window
        while self._windows and (
                len(self._windows) >= PUBLISHERS_MAX or self._bytes + window.bytes > self._bytes_max):
            self._bytes -= self._windows.pop(next(iter(self._windows))).bytes
        self._windows[publisher] = window
        return window
