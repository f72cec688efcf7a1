"""Held: topics of what open transactions hold back, to know whom to tell when they end."""
from __future__ import annotations

from collections.abc import Iterable

from routing.log.producing.raw import Run, topics_of

HELD_TOPICS_MAX = 1_000


class Held:
    """Of one partition. topics None: too many, or they are not known, as after a start."""

    __slots__ = ("topics",)

    def __init__(self) -> None:
        self.topics: set[str] | None = None

    def hold(self, runs: Iterable[Run]) -> None:
        """These were committed, and nobody may read them yet."""
        if self.topics is None:
            return
        for run in runs:
            self.topics = self.topics | set(topics_of(run))
        if len(self.topics) > HELD_TOPICS_MAX:
            self.topics = None

    def clear(self) -> None:
        """No transaction is open."""
        self.topics = set()
