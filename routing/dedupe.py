"""Duplicate detection by message id: a window per publisher.

A publisher that sends the same message id again within its window gets the place of the first one as its answer.
After a restart the windows are filled again from the tail of the log (see recovery.py).
"""
from __future__ import annotations

from typing import Any

from routing.event import Event
from routing.ticket import Ticket

PUBLISHERS_MAX = 10_000     # windows kept; the publisher that was quiet longest loses its window first


class First:
    """The first event of a message id: where it is, and the ticket until that is known. Holds no payload."""

    __slots__ = ("offset", "partition", "ticket")

    def __init__(self, offset: int = -1, partition: Any = None, ticket: Ticket | None = None) -> None:
        self.offset = offset
        self.partition = partition      # routing.log.partition.Partition
        self.ticket = ticket


class Window:
    """The last message ids of one publisher and the event that each of them became."""

    __slots__ = ("_seen", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: dict[bytes | str | int, First] = {}

    def remember(self, message_id: bytes | str | int, first: First) -> None:
        if len(self._seen) >= self._size:
            del self._seen[next(iter(self._seen))]
        self._seen[message_id] = first

    def is_duplicate(self, index: int, event: Event, message_id: bytes | str | int, ticket: Ticket) -> bool:
        """True when the id was seen before: event then takes the place of the first one, or its refusal.

        index: the event's place in ticket, the publish call that is being filled.
        """
        first = self._seen.get(message_id)
        if first is None:
            first = First(ticket=ticket)
            self.remember(message_id, first)
            ticket.on_done(lambda done: self._settle(index, event, message_id, first))
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

    def _settle(self, index: int, event: Event, message_id: bytes | str | int, first: First) -> None:
        assert first.ticket is not None
        if index in first.ticket.refusals:
            self._seen.pop(message_id, None)            # it is not in the log: the next try must get in
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

    def __init__(self, size: int) -> None:
        self._size = size
        self._windows: dict[str, Window] = {}

    def of(self, publisher: str) -> Window:
        """publisher: Event.publisher, the client id or user that its adapter vouches for."""
        window = self._windows.pop(publisher, None)
        if window is None:
            window = Window(self._size)
            if len(self._windows) >= PUBLISHERS_MAX:
                del self._windows[next(iter(self._windows))]
        self._windows[publisher] = window
        return window
