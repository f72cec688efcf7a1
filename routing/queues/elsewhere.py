"""Elsewhere: a queue that is declared on several nodes is one queue, of which each node has a part. What a part asks of
whoever knows the others (mesh/queues); without them it is the whole queue.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from routing.event import Event
from routing.queues.bindings import Binding
from routing.queues.memory import Memory


class Borrowed(Memory):
    """What this part was lent by others: a place of events in memory, each of which it gives back or settles."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        super().__init__(clock_ms)
        self.events: dict[int, Event] = {}              # offset → event

    def take(self, event: Event) -> Event:
        """Give it a place here."""
        event.partition, event.offset = self, self.end_offset
        self.events[event.offset] = event
        self.end_offset += 1
        return event

    @property
    def start_offset(self) -> int:
        return self.end_offset                          # nothing is read from here: it waits in the cursor

    def event(self, offset: int) -> Event | None:
        return self.events.get(offset)


class Elsewhere(Protocol):
    """The other parts of one queue. Must not raise."""

    @property
    def is_shared(self) -> bool:
        """Is there another part?"""
        ...

    def takes(self, event: Event) -> bool:
        """Is an event that the bindings want this part's, and no other's?"""

    def pumped(self) -> None:
        """What could be given out is given out: members here may take more, or have settled something."""

    def when_decided(self, call: Callable[[], None]) -> None:
        """Call once it is known which events are this part's: most often at once."""

    def fetch(self, call: Callable[[], None]) -> bool:
        """Nothing is ready here: have one event brought from where some are, and call when it is here, or nobody has
        any, or nobody answers in time. False: there is nobody to ask, and call is not called.
        """
        ...

    def bound(self, binding: Binding) -> None: ...

    def unbound(self, binding: Binding) -> None: ...

    def purged(self) -> None: ...

    def deleted(self) -> None:
        """The whole queue is deleted, by a client of this node."""

    def closed(self) -> None:
        """This part is gone."""
