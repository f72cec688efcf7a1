"""Unsynced: deliveries of one cursor that went out before their events were on disk, and what was answered to them.

    handed out ──► out ── answered: noted in answers ──┬── on disk ──► in flight, and the answer counts
                                                       └── refused ──► nothing: neither the event nor an answer to it

Until then the cursor knows nothing of them: what is stored of a consumer is about events on disk only, or an answer to
one that a loss of power took would be one to the event that gets its offset next.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routing.cursors.delivery import Delivery

Answer = Callable[[], None]


class Unsynced:
    """Offsets count up in out."""

    __slots__ = ("answers", "out")

    def __init__(self) -> None:
        self.out: dict[int, Delivery] = {}
        self.answers: dict[int, Answer | None] = {}     # None: acked

    def __len__(self) -> int:
        return len(self.out)

    def note(self, delivery: Delivery, answer: Answer | None) -> bool:
        """Is this one of them? Then the answer, its first, counts once it is on disk."""
        offset = delivery.event.offset
        if self.out.get(offset) is not delivery:
            return False
        self.answers.setdefault(offset, answer)
        return True

    def held_by(self, member: Any) -> list[Delivery]:
        """What this member has, and has not answered."""
        answers = self.answers
        return [delivery for offset, delivery in self.out.items()
                if delivery.member is member and offset not in answers]

    def take(self, until: int) -> list[tuple[Delivery, bool, Answer | None]]:
        """Take out what stands before this offset: each delivery, whether it was answered, and how."""
        taken = []
        for offset in list(self.out):
            if offset >= until:
                break
            answered = offset in self.answers
            taken.append((self.out.pop(offset), answered, self.answers.pop(offset, None)))
        return taken
