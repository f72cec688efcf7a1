"""Attachment: is somebody attached to a consumer, since when is nobody, and does the disk know?

What is delivered while somebody is attached may be delivered again after a crash, and must be marked then: the fact
that somebody is attached is on disk before the first delivery.
"""
from __future__ import annotations

from collections.abc import Callable

from routing.ticket import Ticket


class Attachment:
    """Of one consumer. Loop thread only."""

    __slots__ = ("_ticket", "detached_since_s", "giving", "stored")

    def __init__(self, now_s: float) -> None:
        self.detached_since_s: float | None = now_s     # None: somebody is attached
        self.stored = False                             # the stored state says that somebody is
        self.giving = False                             # somebody who is not takes something all the same
        self._ticket: Ticket | None = None

    @property
    def gives(self) -> bool:
        """Somebody may get something now."""
        return self.detached_since_s is None or self.giving

    def begin(self, checkpoint: Callable[[], Ticket | None], ready: Callable[[], None]) -> None:
        """Somebody is attached to a durable consumer. ready: called when that is on disk, and somebody still is."""
        if self.stored:
            ready()
            return
        ticket = self._ticket = checkpoint()
        assert ticket is not None

        def stored(done: Ticket) -> None:
            if self._ticket is done and self.gives:
                self.stored = True
                ready()

        ticket.on_done(stored)
