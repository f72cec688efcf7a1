"""Trim: where readers begin because somebody has deleted what stands before it. Durable before it counts."""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from routing.errors import Reason, Refusal
from routing.log.committing.offsets import read_trim, save_trim
from routing.log.segments.segment import Segment
from routing.ticket import Ticket


class Owner(Protocol):
    """What a trim needs of the store: where files are written, and the way back."""

    def later(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...


class Trim:
    """Of one partition. Loop thread only."""

    __slots__ = ("_directory", "_fs", "_owner", "offset")

    def __init__(self, active: Segment, owner: Owner) -> None:
        self._fs, self._directory = active.fs, active.directory
        self._owner = owner
        self.offset = read_trim(self._fs, self._directory)         # records before it were deleted

    def to(self, offset: int, ticket: Ticket) -> None:
        """The ticket's share is done when it is durable."""

        def work() -> None:
            refusal: Refusal | None = None
            try:
                save_trim(self._fs, self._directory, offset)
            except OSError as error:
                refusal = Refusal(Reason.STORAGE_FULL, f"cannot note the new start: {error.strerror}")
            self._owner.on_loop(lambda: trimmed(refusal))

        def trimmed(refusal: Refusal | None) -> None:
            if refusal is None:
                self.offset = max(self.offset, offset)
            else:
                ticket.refusals[0] = refusal
            ticket.part_done()

        self._owner.later(work)
